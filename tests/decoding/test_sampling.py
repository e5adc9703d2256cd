import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tinymemorylm.decoding.sampling import Sampling, choose, penalised, probabilities
from tinymemorylm.errors import InputError

LOGITS = np.log(np.array([0.5, 0.25, 0.15, 0.1], np.float32))
OPEN = {"temperature": 1.0, "top_p": 1.0}
many_logits = arrays(np.float32, 20, elements=st.floats(-20, 20, width=32))


def test_without_filters_it_is_the_softmax():
    p = probabilities(LOGITS, Sampling(**OPEN), [])
    np.testing.assert_allclose(p, [0.5, 0.25, 0.15, 0.1], rtol=1e-6)


def test_temperature_sharpens():
    p = probabilities(LOGITS, Sampling(temperature=0.5, top_p=1.0), [])
    squared = np.array([0.5, 0.25, 0.15, 0.1]) ** 2
    np.testing.assert_allclose(p, squared / squared.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ({"top_k": 2}, 2),
        ({"top_p": 0.5}, 1),
        ({"top_p": 0.51}, 2),
        ({"top_p": 0.76}, 3),
        ({"min_p": 0.49}, 2),
        ({"min_p": 0.51}, 1),
    ],
)
def test_each_filter_keeps_the_likeliest(settings: dict, kept: int):
    p = probabilities(LOGITS, Sampling(**{**OPEN, **settings}), [])
    assert (p > 0).tolist() == [True] * kept + [False] * (4 - kept)
    assert p.sum() == pytest.approx(1)


@given(many_logits, st.integers(0, 20), st.floats(0.01, 1), st.floats(0, 1), st.floats(0.05, 3))
def test_some_token_is_always_left(
    logits: np.ndarray, top_k: int, top_p: float, min_p: float, temperature: float
):
    p = probabilities(logits, Sampling(temperature, top_k, top_p, min_p), [])
    assert p.sum() == pytest.approx(1)
    assert logits[p > 0].max() == pytest.approx(logits.max(), abs=1e-3)


def test_the_repetition_penalty_lowers_seen_tokens_of_either_sign():
    logits = np.array([2.0, -2.0, 1.0], np.float32)
    assert penalised(logits, Sampling(repetition_penalty=2.0), [0, 1]).tolist() == [1, -4, 1]


def test_temperature_zero_takes_the_likeliest_the_lower_id_on_ties():
    rng = np.random.default_rng(0)
    logits = np.array([0.0, 5.0, 5.0], np.float32)
    assert choose(logits, Sampling(temperature=0), [], rng) == 1


def test_draws_follow_the_distribution():
    rng = np.random.default_rng(1)
    drawn = [choose(LOGITS, Sampling(**OPEN), [], rng) for _ in range(4000)]
    share = np.bincount(drawn, minlength=4) / 4000
    np.testing.assert_allclose(share, [0.5, 0.25, 0.15, 0.1], atol=0.03)


@pytest.mark.parametrize(
    "bad",
    [
        {"temperature": -1.0},
        {"temperature": float("nan")},
        {"top_k": -1},
        {"top_p": 0.0},
        {"top_p": 1.5},
        {"min_p": 2.0},
        {"repetition_penalty": 0.0},
        {"seed": -3},
    ],
)
def test_senseless_settings_name_the_value(bad: dict):
    (name,) = bad
    with pytest.raises(InputError, match=name):
        Sampling(**bad)
