import numpy as np
import pytest

from tinymemorylm.evaluation.statistics import share, wilson


def test_wilson_has_the_published_figures():
    # Newcombe 1998, table I: 81/263, 15/148, 0/20, 1/29.
    published = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605)}
    published |= {(0, 20): (0.0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for counts, ends in published.items():
        assert wilson(*counts) == pytest.approx(ends, abs=5e-5)


def test_the_interval_covers_the_true_share_as_often_as_it_says():
    rng = np.random.default_rng(0)
    shares = rng.uniform(0, 1, 4000)
    intervals = [wilson(int(k), 60) for k in rng.binomial(60, shares)]
    covered = [low <= p <= high for p, (low, high) in zip(shares, intervals, strict=True)]
    assert np.mean(covered) == pytest.approx(0.95, abs=0.012)


def test_no_trials_leave_everything_open():
    assert wilson(0, 0) == (0.0, 1.0)
    assert share("right", 0, 0) == {"right": 0, "right_low": 0, "right_high": 1}


def test_a_share_comes_with_the_ends_of_its_interval():
    row = share("right", 3, 4)
    assert row["right"] == 0.75 and row["right_low"] == round(wilson(3, 4)[0], 4)
