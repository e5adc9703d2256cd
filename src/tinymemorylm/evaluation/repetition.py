"""Repetition: how much a sequence says again, and whether it ends in a loop.

In: sequences of tokens or words. Out: counts and shares.
"""

from collections.abc import Hashable, Iterable, Sequence

LONGEST_LOOP, LOOP_TIMES, LOOP_TOKENS = 20, 3, 12


def ngrams(sequence: Sequence[Hashable], n: int) -> list[tuple[Hashable, ...]]:
    """All runs of n, in order."""
    return [tuple(sequence[i : i + n]) for i in range(len(sequence) - n + 1)]


def repeats(sequence: Sequence[Hashable], n: int) -> tuple[int, int]:
    """How many of the n-grams occurred before in the sequence, and how many there are."""
    grams = ngrams(sequence, n)
    return len(grams) - len(set(grams)), len(grams)


def repeated_share(sequence: Sequence[Hashable], n: int = 4) -> float:
    """Share of the n-grams that occurred before in the sequence: 0 none, near 1 a loop."""
    repeated, total = repeats(sequence, n)
    return repeated / max(1, total)


def ends_in_loop(ids: Sequence[int]) -> bool:
    """Whether the end is one run of at most LONGEST_LOOP tokens, LOOP_TIMES over or more.

    It must go on for LOOP_TOKENS tokens at least, so that "ha ha ha" is none.
    """

    def loops(period: int) -> bool:
        end = ids[-max(LOOP_TIMES * period, LOOP_TOKENS) :]
        long_enough = len(end) >= max(LOOP_TIMES * period, LOOP_TOKENS)
        return long_enough and end[period:] == end[:-period]

    return any(loops(period) for period in range(1, LONGEST_LOOP + 1))


def distinct(sequences: Iterable[Sequence[Hashable]], n: int) -> float:
    """distinct-n: different n-grams of all sequences over their number (Li et al. 2016)."""
    grams = [gram for sequence in sequences for gram in ngrams(sequence, n)]
    return len(set(grams)) / len(grams) if grams else 0.0
