import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.evaluation.positions import ratio
from tinymemorylm.evaluation.statistics import Z, accuracy, bootstrap, share, wilson


def test_bootstrap_agrees_with_the_standard_error_of_a_ratio():
    rng = np.random.default_rng(1)
    wholes = rng.integers(50, 150, 300).astype(float)
    parts = 2 * wholes + rng.normal(0, 20, 300)
    mean, error = ratio(parts, wholes)
    assert error is not None
    low, high = bootstrap(parts, wholes)
    assert low == pytest.approx(mean - 1.96 * error, abs=0.2 * error)
    assert high == pytest.approx(mean + 1.96 * error, abs=0.2 * error)
    assert bootstrap(parts, wholes) == (low, high) != bootstrap(parts, wholes, seed=1)


def test_a_single_unit_and_empty_wholes_have_no_spread():
    assert bootstrap(np.array([3.0]), np.array([2.0])) == (1.5, 1.5)
    assert bootstrap(np.zeros(4), np.zeros(4)) == (0, 0)


@given(st.integers(1, 5000), st.data())
def test_the_ends_are_the_shares_that_lie_just_so_far_from_what_was_seen(n: int, data):
    seen = data.draw(st.integers(0, 2 * n)) / 2 / n
    low, high = wilson(seen * n, n)
    assert 0 <= low <= seen <= high <= 1 and low < high
    for end in (low, high):
        if 0 < end < 1:
            assert abs(seen - end) == pytest.approx(Z * math.sqrt(end * (1 - end) / n), abs=1e-9)


def test_none_and_all_end_at_0_and_1_whatever_the_rounding():
    assert all(wilson(0, n)[0] == 0 and wilson(n, n)[1] == 1 for n in range(1, 1000))


@pytest.mark.parametrize(("true", "n"), [(0.5, 100), (0.9, 40)])
def test_it_holds_the_true_share_in_about_95_of_100_samples(true: float, n: int):
    seen = np.random.default_rng(0).binomial(n, true, 4000)
    held = np.mean([low <= true <= high for low, high in (wilson(int(s), n) for s in seen)])
    assert held == pytest.approx(0.95, abs=0.02)


def test_a_row_has_the_share_with_its_interval():
    low, high = wilson(7.5, 10)
    assert accuracy(7.5, 10) == {
        "accuracy": 0.75,
        "n": 10,
        "low": round(low, 5),
        "high": round(high, 5),
    }


def test_wilson_has_the_published_figures():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for counts, ends in published.items():
        assert wilson(*counts) == pytest.approx(ends, abs=5e-5)


def test_no_trials_leave_everything_open():
    assert wilson(0, 0) == (0.0, 1.0)
    assert share("right", 0, 0) == {"right": 0, "right_low": 0, "right_high": 1}


def test_a_share_comes_with_the_ends_of_its_interval():
    row = share("right", 3, 4)
    assert row["right"] == 0.75 and row["right_low"] == round(wilson(3, 4)[0], 4)
