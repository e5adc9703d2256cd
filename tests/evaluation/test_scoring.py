import pytest
import torch

from tinymemorylm.evaluation import scoring
from tinymemorylm.evaluation.scoring import Scorer, Window, by_length
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture
def windows(random_tokens: torch.Tensor) -> list[Window]:
    lengths = (40, 7, 90, 7, 23, 2)
    row = random_tokens[0].tolist()
    return [Window(row[n : 2 * n], n - 1 - n // 3) for n in lengths]


@torch.no_grad()
def logprobs(model: Transformer, window: Window) -> torch.Tensor:
    """(n_scored, vocab_size)"""
    logits = model.logits(model(torch.tensor([window.tokens[:-1]])))[0]
    return logits.log_softmax(-1)[len(logits) - window.n_scored :]


def test_totals_are_those_of_each_window_alone(
    model: Transformer, tokenizer: Tokenizer, windows: list[Window], monkeypatch
):
    wanted = []
    for window in windows:
        targets = torch.tensor(window.tokens[-window.n_scored :])[:, None]
        wanted.append(-float(logprobs(model, window).gather(1, targets).sum()))
    for batch_tokens in (1, 100, 8192):
        monkeypatch.setattr(scoring, "BATCH_TOKENS", batch_tokens)
        got = Scorer(model, tokenizer).totals(windows, "windows")
        assert got == pytest.approx(wanted, rel=1e-5)
        assert got[1] == got[3]  # the same window twice: equal to the last bit


def test_shorter_windows_come_first_and_equal_ones_once(windows: list[Window]):
    given: list[Window] = []

    def length_of(cut):
        for window in cut:
            given.append(window)
            yield len(window.tokens)

    assert by_length(windows, length_of, "windows") == [40, 7, 90, 7, 23, 2]
    assert [len(window.tokens) for window in given] == [2, 7, 23, 40, 90]


@pytest.mark.parametrize("adjusted", [False, True])
def test_greedy_is_what_the_model_would_say_itself(
    model: Transformer, tokenizer: Tokenizer, adjusted: bool
):
    boost = torch.linspace(0, 2, model.config.vocab_size) if adjusted else torch.zeros(1)
    said = [5, 300, 17]
    for _ in range(6):
        with torch.no_grad():
            logits = model.logits(model(torch.tensor([said])))[0, -1]
        said.append(int((logits - boost).argmax()))
    other = [*said[:-1], (said[-1] + 1) % 512]
    scorer = Scorer(model, tokenizer, boost if adjusted else None)
    found = list(scorer.nll_and_greedy([Window(said, 6), Window(other, 6), Window(other[:-1], 5)]))
    assert [greedy for _, greedy in found] == [True, False, True]
    assert [nats for nats, _ in found] == pytest.approx(
        scorer.totals([Window(said, 6), Window(other, 6), Window(other[:-1], 5)], "w"), rel=1e-5
    )


def test_a_window_with_nothing_to_score_is_no_nats(model: Transformer, tokenizer: Tokenizer):
    assert Scorer(model, tokenizer).totals([Window([7], 0)], "windows") == [0]


@torch.no_grad()
@pytest.mark.parametrize("n_prompt", [1, 2, 90, 240])
def test_logits_after_a_prompt_are_those_of_each_whole_sequence(
    model: Transformer, tokenizer: Tokenizer, random_tokens: torch.Tensor, n_prompt: int
):
    ids = random_tokens.flatten().tolist()
    prompt, ends = ids[:n_prompt], [ids[-5:], ids[-2:-1], ids[-9:-6]]
    boost = torch.linspace(0, 1, tokenizer.vocab_size)
    found = Scorer(model, tokenizer, boost).logits_after(prompt, ends)
    for logits, end in zip(found, ends, strict=True):
        whole = model.logits(model(torch.tensor([prompt + end])))[0, n_prompt - 1 : -1]
        torch.testing.assert_close(logits, whole - boost, atol=1e-4, rtol=1e-4)
