"""Means, spread and pairs of an ablation's rows."""

import math

import pytest

from tinymemorylm.lab.results import _at_equal_cost, _summary, deviation, value_at


def row(arm: str, seed: int, bits: float, validation=((10, 1.0, 2.0),)) -> dict:
    return {
        "arm": arm,
        "seed": seed,
        "bits_per_byte": bits,
        "parameters": 7,
        "tokens": 10,
        "seconds": 1.0,
        "bytes_per_token": 3.0,
        "validation": [list(point) for point in validation],
        "validation_at_equal_tokens": 2.0,
        "validation_at_equal_seconds": None,
    }


def test_differences_are_taken_within_seeds():
    rows = [row("a", 0, 2.0), row("b", 0, 2.1), row("a", 1, 3.0), row("b", 1, 3.3)]
    rows.append(row("b", 2, 9.0))  # has no pair yet
    found = _summary("b", "a", rows)
    assert found["difference"] == pytest.approx(0.2)
    assert found["standard_error"] == pytest.approx(0.2 / math.sqrt(2) / math.sqrt(2), abs=1e-6)
    assert found["seeds"] == [0, 1, 2] and found["bits_per_byte"] == pytest.approx(14.4 / 3)
    assert found["validation_at_equal_seconds"] is None


def test_the_first_arm_is_compared_to_nothing_and_one_seed_has_no_spread():
    found = _summary("a", "a", [row("a", 0, 2.0)])
    assert found["difference"] is found["standard_error"] is found["standard_deviation"] is None
    assert _summary("b", "a", [row("a", 0, 2.0)])["bits_per_byte"] is None


def test_deviation_is_the_samples():
    assert deviation([1.0, 3.0]) == pytest.approx(math.sqrt(2))
    assert deviation([1.0]) is None


@pytest.mark.parametrize(("x", "value"), [(1, 4.0), (2, 3.0), (3, 2.0), (9, 2.0), (0.5, None)])
def test_values_lie_on_the_line_between_points(x: float, value: float | None):
    assert value_at([(1, 4.0), (3, 2.0)], x) == value


def test_arms_are_compared_at_what_the_cheapest_took():
    quick = row("a", 0, 2.0, [(5, 1.0, 4.0), (10, 2.0, 3.0)])
    slow = row("b", 0, 2.0, [(5, 1.5, 3.5), (10, 3.0, 2.5)])
    _at_equal_cost([quick, slow])
    assert (quick["validation_at_equal_tokens"], quick["validation_at_equal_seconds"]) == (3.0, 3.0)
    assert slow["validation_at_equal_tokens"] == 2.5
    assert slow["validation_at_equal_seconds"] == pytest.approx(3.5 - 1 / 3, abs=1e-6)
