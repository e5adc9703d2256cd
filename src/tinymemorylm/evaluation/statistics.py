"""How far a measured share may be from the true one.

In: successes, and of how many. Out: an interval of 95% confidence.
"""

import math

Z = 1.959964
"""The normal distribution holds 95% within so many standard deviations."""


def wilson(successes: float, n: int) -> tuple[float, float]:
    """Wilson's interval of a share, within 0 and 1 and never empty. n at least 1.

    successes may be a half: what was tied. Source: Wilson 1927.
    """
    share = successes / n
    middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
    half = Z * math.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)) / (1 + Z**2 / n)
    return max(0.0, middle - half), min(1.0, middle + half)


def accuracy(successes: float, n: int) -> dict[str, float | int]:
    """The fields of a row: accuracy, n, and the ends of the interval, low and high."""
    low, high = wilson(successes, n)
    return {
        "accuracy": round(successes / n, 5),
        "n": n,
        "low": round(low, 5),
        "high": round(high, 5),
    }
