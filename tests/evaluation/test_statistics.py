import numpy as np
import pytest

from tinymemorylm.evaluation.positions import ratio
from tinymemorylm.evaluation.statistics import bootstrap, wilson


def test_wilson_solves_its_equation_and_stays_within_0_and_1():
    assert wilson(8, 10) == pytest.approx((0.49016, 0.94331), abs=1e-5)
    for successes, n in ((3, 7), (49.5, 100), (1, 1000)):
        for end in wilson(successes, n):
            spread = (end * (1 - end) / n) ** 0.5
            assert abs(successes / n - end) == pytest.approx(1.959964 * spread)
    assert wilson(0, 5)[0] == 0 and wilson(5, 5)[1] == 1


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
