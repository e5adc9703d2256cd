"""How far a measured figure may be from the true one.

In: successes, or the parts and wholes a figure is the ratio of. Out: an interval of 95% confidence.
"""

import math

import numpy as np
from numpy.typing import NDArray

Z = 1.959964
"""The normal distribution holds 95% within so many standard deviations."""
RESAMPLES = 2000


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, within 0 and 1 and never empty; all of it for no trials.

    successes may be a half: what was tied. Source: Wilson 1927.
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, min(share, middle - half)), min(1.0, max(share, middle + half))  # rounding


def accuracy(successes: float, n: int) -> dict[str, float | int]:
    """The fields of a row: accuracy, n, and the ends of the interval, low and high."""
    low, high = wilson(successes, n)
    return {
        "accuracy": round(successes / n, 5),
        "n": n,
        "low": round(low, 5),
        "high": round(high, 5),
    }


def share(name: str, successes: int, n: int) -> dict[str, float]:
    """A share and its interval as a row of several has them: `name`, `name`_low, `name`_high."""
    low, high = wilson(successes, n)
    found = {name: successes / max(1, n), f"{name}_low": low, f"{name}_high": high}
    return {key: round(value, 4) for key, value in found.items()}


def bootstrap(
    parts: NDArray[np.float64], wholes: NDArray[np.float64], seed: int = 0
) -> tuple[float, float]:
    """The interval of sum(parts) / sum(wholes) over units drawn again with replacement.

    parts, wholes: (units,). The percentile method (Efron 1979), 95%; draws whose wholes are all 0
    count as 0.
    """
    rng = np.random.default_rng(seed)
    ratios = np.zeros(RESAMPLES)
    for i in range(RESAMPLES):
        drawn = rng.integers(len(parts), size=len(parts))
        ratios[i] = parts[drawn].sum() / (wholes[drawn].sum() or 1)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return float(low), float(high)
