"""Random choices that keep account of their own probability.

In: a seed. Out: picks, and `bits`, the sum of -log2 p over them. Everything random in the
storyworld goes through here, which is what makes its entropy exact.
"""

import math
import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


class Choices:
    """A stream of choices driven by one seed, with the information they carried, in bits."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)
        self.bits = 0.0

    def index(self, n: int) -> int:
        """One of 0..n-1, all equally likely."""
        self.bits += math.log2(n)
        return int(self._random.random() * n)

    def index_except(self, n: int, taken: Sequence[int]) -> int:
        """One of 0..n-1 that is not in `taken` (distinct), all equally likely."""
        index = self.index(n - len(taken))
        for other in sorted(taken):
            index += index >= other
        return index

    def pick(self, options: Sequence[T]) -> T:
        """One of `options`, all equally likely."""
        return options[self.index(len(options))]

    def weighted(self, options: Sequence[tuple[T, float]]) -> T:
        """One of `options`, (value, weight) pairs, likely in proportion to its weight."""
        total = sum(weight for _, weight in options)
        point = self._random.random() * total
        chosen, weight = options[-1]
        for option, option_weight in options:
            if point < option_weight:
                chosen, weight = option, option_weight
                break
            point -= option_weight
        self.bits -= math.log2(weight / total)
        return chosen
