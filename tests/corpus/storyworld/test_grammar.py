"""The grammar language: what it writes, and that reading gives back the choices."""

import pytest

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.grammar import Telling, load, parse
from tinymemorylm.corpus.storyworld.reading import readings

TABLE = {
    "rules": {
        "story": "{a ^color} {thing} was lost. <find A> ~ {A} had the {thing}.",
        "find": "{@} found it {thing.place}.\nIt was {thing.place}, and {@} saw it.",
        "twice": "<find! A> <find! B>",
        "loose": "[big|big] dog",
    },
    "lists": {
        "color": "red, orange",
        "name": "Ann, Anna, Tamsu",
        "thing": {
            "kite": {"place": "in [a|the] tree"},
            "ball": {"place": "under the bed"},
        },
    },
}


def test_a_word_once_chosen_is_kept_and_articles_agree():
    grammar = load(TABLE)
    for seed in range(50):
        text = Telling(grammar, Choices(seed)).tell("story")
        thing = "kite" if "kite" in text else "ball"
        assert text.count(thing) == 2
        assert text.startswith(("A red ", "An orange "))


def test_every_text_reads_back_in_one_way_with_its_bits():
    grammar = load(TABLE)
    for seed in range(50):
        choices = Choices(seed)
        text = Telling(grammar, choices).tell("story")
        assert readings(grammar, "story", text) == [pytest.approx(choices.bits)]


def test_the_probabilities_of_all_texts_add_up_to_one():
    rules = {"story": "{A} [ran|hid].<more A> / {A} saw {B}.", "more": "[| {@} fell.| {@} sang.]"}
    grammar = load({"rules": rules, "lists": {"name": "Ann, Bo, Tamsu"}})
    bits: dict[str, float] = {}
    for seed in range(3000):
        choices = Choices(seed)
        text = Telling(grammar, choices).tell("story")
        bits[text] = choices.bits
    assert len(bits) == 3 * 2 * 3 * 2
    assert sum(2**-b for b in bits.values()) == pytest.approx(1)


def test_two_options_of_one_text_are_two_readings():
    assert len(readings(load(TABLE), "loose", "big dog")) == 2


def test_a_text_the_grammar_cannot_write_has_no_reading():
    assert readings(load(TABLE), "story", "A red kite flew.") == []


@pytest.mark.parametrize("source", ["[a|b", "a]", "{A", "<Rule? x>", "{a b c}"])
def test_a_malformed_template_is_refused(source: str):
    with pytest.raises(ValueError):
        parse(source)
