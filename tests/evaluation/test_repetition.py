import pytest

from tinymemorylm.evaluation.repetition import distinct, ends_in_loop, repeated_share, repeats


def test_an_ngram_counts_as_repeated_from_its_second_time_on():
    assert repeats("abcdabcd", 4) == (1, 5)
    assert repeated_share("abcdabcd") == 0.2
    assert repeated_share("aaaaaaaa") == pytest.approx(4 / 5)
    assert repeats("abc", 4) == (0, 0) and repeated_share("abc") == 0


@pytest.mark.parametrize(
    ("ids", "loops"),
    [
        ([*range(50), *[7] * 12], True),
        ([*range(50), *[7] * 11], False),  # too short
        ([*range(50), *range(5, 9), *range(5, 9), *range(5, 9)], True),
        ([*range(50), *range(5, 9), *range(5, 9), 5, 6, 7], False),  # not three times
        ([*range(50), *range(20), *range(20), *range(20)], True),
        ([*range(50), *range(21), *range(21), *range(21)], False),  # too long a period
        ([*range(20), *range(20), *range(20), 99], False),  # it found its way out
        ([7] * 3, False),
        ([], False),
    ],
)
def test_a_loop_is_a_short_run_three_times_over_at_the_end(ids: list[int], loops: bool):
    assert ends_in_loop(ids) is loops


def test_distinct_counts_over_all_sequences_but_never_across_two():
    assert distinct(["abab", "ab"], 1) == 2 / 6
    assert distinct(["abab", "ab"], 2) == 2 / 4
    assert distinct(["a", "b"], 2) == 0
