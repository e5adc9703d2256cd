from itertools import islice

import pytest
import torch

from tinymemorylm.config import preset
from tinymemorylm.decoding import batch
from tinymemorylm.decoding.batch import draw_batch
from tinymemorylm.decoding.reference import stream_tokens
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.errors import InputError
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import SPECIAL, Tokenizer

CONTROLS = 6


def one_by_one(
    model: Transformer, tokenizer: Tokenizer, prompt: list[int], sampling: Sampling, **options
) -> list[tuple[int, float]]:
    drawn = []
    stream = stream_tokens(model, prompt, sampling, options["log_boost"])
    for token, nats in islice(stream, options["max_new_tokens"]):
        drawn.append((token, nats))
        if tokenizer.classes[token] == SPECIAL:
            break
    return drawn


def test_rows_are_what_the_reference_draws_one_by_one(
    model: Transformer, tokenizer: Tokenizer, random_tokens: torch.Tensor, monkeypatch
):
    monkeypatch.setattr(batch, "ROWS", 4)
    monkeypatch.setattr(batch, "PREFILL_BLOCK", 20)
    model = model.double()  # float noise would flip a choice now and then
    lengths = (30, 1, 130, 47, 45, 200, 45)
    prompts = [random_tokens[i % 2, :n].tolist() for i, n in enumerate(lengths)]
    samplings = [
        *(Sampling(seed=n) for n in range(4)),
        Sampling(0),
        Sampling(1.2, top_k=40, seed=7),
        Sampling(repetition_penalty=1.5, seed=8),
    ]
    likely_controls = torch.zeros(512)
    likely_controls[:CONTROLS] = -1.5
    options = {"max_new_tokens": 70, "log_boost": likely_controls}
    found = draw_batch(model, tokenizer, prompts, samplings, **options)
    wanted = [
        one_by_one(model, tokenizer, prompt, sampling, **options)
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    assert [[token for token, _ in row] for row in found] == [
        [token for token, _ in row] for row in wanted
    ]
    for row, other in zip(found, wanted, strict=True):
        assert [nats for _, nats in row] == pytest.approx([nats for _, nats in other], abs=1e-4)
    endings = [tokenizer.classes[row[-1][0]] == SPECIAL for row in found]
    assert True in endings and len({len(row) for row in found}) > 3  # rows left at different times
    assert max(len(row) for row in found) in (56, 70)


def test_each_row_goes_on_until_its_own_context_is_full(tokenizer: Tokenizer):
    model = initialise(Transformer(preset("smoke", context_length=32)), 0).eval()
    forbid = torch.zeros(512)
    forbid[:CONTROLS] = 1e4
    prompts = [[1] * 20, [1] * 5, [1] * 31]
    found = draw_batch(
        model, tokenizer, prompts, [Sampling()] * 3, max_new_tokens=99, log_boost=forbid
    )
    assert [len(row) for row in found] == [12, 27, 1]


def test_a_prompt_that_does_not_fit_is_named(model: Transformer, tokenizer: Tokenizer):
    for length in (0, 256):
        with pytest.raises(InputError, match=f"a prompt is {length} tokens; give 1 to 255"):
            draw_batch(model, tokenizer, [[1], [1] * length], [Sampling()] * 2, max_new_tokens=5)
