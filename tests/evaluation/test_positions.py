import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinymemorylm.evaluation.positions import by_position, full_windows, ratio
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


def test_full_windows_stand_side_by_side_and_leave_the_rest():
    cut = list(full_windows(range(10, 21), 1, 4))
    assert [w.tokens for w in cut] == [[1, 10, 11, 12, 13], [13, 14, 15, 16, 17]]
    assert all(w.n_scored == 4 for w in cut)


@torch.no_grad()
def test_rows_hold_each_position_of_each_full_window_once(
    model: Transformer, tokenizer: Tokenizer, texts: list[str]
):
    document = "\n".join(texts)
    ids = tokenizer.encode(document)
    size = model.config.context_length
    rows = by_position(Scorer(model, tokenizer), [document, "too short"], (0, 64, 4096))
    assert [(row["from"], row["to"]) for row in rows] == [(0, 64), (64, size)]
    n_windows = len(ids) // size
    assert [row["tokens"] for row in rows] == [n_windows * 64, n_windows * (size - 64)]
    covered = tokenizer.decode(ids[: n_windows * size])
    assert sum(row["bytes"] for row in rows) == len(covered.encode())
    nats = np.zeros(size)
    for start in range(0, n_windows * size, size):
        before = 1 if start == 0 else ids[start - 1]
        window = torch.tensor(ids[start : start + size])
        states = model(torch.tensor([[before, *window[:-1].tolist()]]))
        nats += F.cross_entropy(model.logits(states)[0], window, reduction="none").double().numpy()
    for row in rows:
        bits = nats[row["from"] : row["to"]].sum() / math.log(2)
        assert row["bits_per_byte"] == pytest.approx(bits / row["bytes"], rel=1e-4)


def test_no_full_window_is_no_row(model: Transformer, tokenizer: Tokenizer):
    assert by_position(Scorer(model, tokenizer), ["short", ""]) == []


def test_the_error_of_a_ratio_is_the_spread_of_repeated_samples():
    rng = np.random.default_rng(0)

    def sample() -> tuple[float, float]:
        wholes = rng.integers(50, 150, 60).astype(float)
        mean, error = ratio(2 * wholes + rng.normal(0, 20, 60), wholes)
        assert error is not None
        return mean, error

    drawn = np.array([sample() for _ in range(400)])
    assert drawn[:, 0].std() == pytest.approx(drawn[:, 1].mean(), rel=0.1)
    assert ratio(np.array([3.0]), np.array([2.0])) == (1.5, None)
