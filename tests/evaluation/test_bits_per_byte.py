import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.evaluation import scoring
from tinymemorylm.evaluation.bits_per_byte import score_documents, windows
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@given(st.integers(0, 400), st.integers(1, 50))
def test_windows_score_every_token_once_after_up_to_a_window_of_context(n: int, size: int):
    ids = list(range(10, 10 + n))
    cut = list(windows(ids, 1, size))
    assert [t for w in cut for t in w.tokens[-w.n_scored :]] == ids
    for i, window in enumerate(cut):
        before = window.tokens[: -window.n_scored]
        assert before == ([1] if i == 0 else ids[(i - 1) * size : i * size])


@torch.no_grad()
def test_totals_equal_the_slow_protocol(model: Transformer, tokenizer: Tokenizer, texts: list[str]):
    documents = ["\n".join(texts[:9]), texts[10]]
    nats = 0.0
    size = model.config.context_length // 2
    for text in documents:
        ids = tokenizer.encode(text)
        for i in range(0, len(ids), size):
            before = [1] if i == 0 else ids[i - size : i]
            logits = model.logits(model(torch.tensor([before + ids[i : i + size]])))[0]
            new = torch.tensor(ids[i : i + size])
            nats += float(F.cross_entropy(logits[len(before) - 1 : -1], new, reduction="sum"))
    score = score_documents(Scorer(model, tokenizer), documents)
    assert score.nats == pytest.approx(nats, rel=1e-5)
    assert score.n_bytes == sum(len(d.encode()) for d in documents)
    assert score.bits_per_byte == pytest.approx(nats / math.log(2) / score.n_bytes, rel=1e-5)


def test_batching_and_order_do_not_matter(
    model: Transformer, tokenizer: Tokenizer, texts: list[str], monkeypatch: pytest.MonkeyPatch
):
    wanted = score_documents(Scorer(model, tokenizer), texts[:20]).nats
    for batch_tokens in (1, 300):
        monkeypatch.setattr(scoring, "BATCH_TOKENS", batch_tokens)
        got = score_documents(Scorer(model, tokenizer), texts[:20][::-1]).nats
        assert got == pytest.approx(wanted, rel=1e-5)


def test_no_text_is_no_bits(model: Transformer, tokenizer: Tokenizer):
    assert score_documents(Scorer(model, tokenizer), []).bits_per_byte == 0
