"""Stories: independent draws, one reading each, simple and never alike."""

import itertools
import math
import re

import pytest
from tokenizers import Regex
from tokenizers.pre_tokenizers import Split

from tinymemorylm.corpus.storyworld import Choices, Story, stories, story
from tinymemorylm.corpus.storyworld.reading import readings
from tinymemorylm.corpus.storyworld.stories import plots

PRE_TOKENS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


def first(n: int, seed: int) -> list[Story]:
    return list(itertools.islice(stories(seed, 10**9), n))


@pytest.mark.parametrize("n", [300, pytest.param(4000, marks=pytest.mark.slow)])
def test_each_story_has_exactly_one_reading_with_its_bits(n: int):
    for told in itertools.islice(stories(1, 10**9), n):
        found = [
            bits + math.log2(len(plots()))
            for _, grammar in plots()
            for bits in readings(grammar, "story", told.text)
        ]
        assert found == [pytest.approx(told.bits)], told.text


def test_stories_are_independent_of_each_other_and_of_the_number_of_bytes():
    assert first(5, seed=3) == list(stories(3, 10_000))[:5]
    assert first(5, seed=3)[4] == story(Choices("story:3:4"))
    assert first(5, seed=3) != first(5, seed=4)


def test_the_last_story_is_whole_and_crosses_the_limit():
    sizes = [len(told.text.encode()) for told in stories(5, 10_000)]
    assert sum(sizes[:-1]) < 10_000 <= sum(sizes)


def test_stories_are_clean_plain_text():
    for told in first(1000, seed=7):
        text = told.text
        assert text.isascii() and text == text.strip()
        assert not re.search(r"  |\n\n| \n|\n |[{}<>\[\]|@&~^*/]| [.,!?]|\.\.", text), text
        assert not re.search(r"\ba [aeiou]|\ban [^aeiouh]", text), text
        assert not re.search(r"[.!?] [a-z]", text), text
        assert not re.search(r"\b(\w+) \1\b", text), text
        assert text.count('"') % 2 == 0
        assert 60 <= len(text.split()) <= 150, text
        assert text.count("\n") <= 3


def test_every_named_hero_is_named_again():
    for told in first(300, seed=8):
        assert told.text.count(dict(told.facts)["A"]) >= 2


def test_every_plot_is_told():
    assert {told.facts[0][1] for told in first(400, seed=9)} == {name for name, _ in plots()}
    assert len(plots()) >= 12


@pytest.mark.parametrize("seed", [11, 12])
def test_any_300_kilobytes_hold_enough_different_pre_tokens(seed: int):
    text = "\n".join(told.text for told in stories(seed, 300_000))[:300_000]
    split = Split(Regex(PRE_TOKENS), "isolated")
    assert len({token for token, _ in split.pre_tokenize_str(text)}) >= 2300


@pytest.mark.slow
def test_ten_megabytes_hold_no_two_stories_alike_and_a_small_vocabulary():
    texts = [told.text for told in stories(13, 10_000_000)]
    assert len(set(texts)) == len(texts)
    words = {word for text in texts for word in re.findall(r"[a-z']+", text.lower())}
    assert 1000 <= len(words) <= 2500
