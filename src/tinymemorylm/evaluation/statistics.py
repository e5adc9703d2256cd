"""Intervals around measured shares.

In: counts. Out: the ends of an interval.
"""

import math


def wilson(successes: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Wilson's interval for a share of n trials (Wilson 1927); z of the normal, 95% by default.

    All of [0, 1] for no trials.
    """
    if n == 0:
        return 0.0, 1.0
    share = successes / n
    scale = 1 + z * z / n
    centre = (share + z * z / (2 * n)) / scale
    half = z * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n)) / scale
    return max(0.0, centre - half), min(1.0, centre + half)


def share(name: str, successes: int, n: int) -> dict[str, float]:
    """A share and its Wilson interval as a row has them: `name`, `name`_low, `name`_high."""
    low, high = wilson(successes, n)
    found = {name: successes / max(1, n), f"{name}_low": low, f"{name}_high": high}
    return {key: round(value, 4) for key, value in found.items()}
