"""Conversations about stories: one reading each, turns in order, answers true to the text."""

import itertools
import math
import re

import pytest
from talk_reading import readings as talk_readings

from tinymemorylm.corpus.storyworld import Choices, Conversation, conversations, story_conversation
from tinymemorylm.corpus.storyworld.conversations import LONG_SHARE, STORY_SHARE, chats
from tinymemorylm.corpus.storyworld.grammar import TURN
from tinymemorylm.corpus.storyworld.reading import readings
from tinymemorylm.corpus.storyworld.stories import plots


def drawn(n: int) -> list[Conversation]:
    return [story_conversation(Choices(f"conversation test:{i}")) for i in range(n)]


def every_reading(held: Conversation) -> list[float]:
    """The bits of every way to draw these turns, as talk or about a story."""
    text = TURN.join(content for _, content in held.turns)
    story_shares = ((chats(), 1 - LONG_SHARE), (plots(), LONG_SHARE))
    return [
        bits - math.log2(STORY_SHARE * share / len(kinds))
        for kinds, share in story_shares
        for _, grammar in kinds
        for bits in readings(grammar, "chat", text)
    ] + [bits - math.log2(1 - STORY_SHARE) for bits in talk_readings(list(held.turns))]


@pytest.mark.parametrize("n", [250, pytest.param(4000, marks=pytest.mark.slow)])
def test_each_conversation_has_exactly_one_reading_with_its_bits(n: int):
    for held in itertools.islice(conversations(1, 10**9), n):
        assert every_reading(held) == [pytest.approx(held.bits)], held


def test_turns_alternate_and_are_clean_plain_text():
    for held in drawn(1000):
        assert [role for role, _ in held.turns] == ["user", "assistant"] * (len(held.turns) // 2)
        for _, content in held.turns:
            assert content.isascii() and content == content.strip() and content
            assert not re.search(r"  |\n\n| \n|\n |[{}<>\[\]|@&~^*/]| [.,!?]|\.\.", content)
            assert not re.search(r"\ba [aeiou]|\ban [^aeiouh]", content), content
            assert not re.search(r"[.!?] [a-z]", content), content
            assert content.count('"') % 2 == 0


def test_a_story_asked_for_uses_every_name_and_thing_asked_for():
    asked = re.compile(r"story about (.*)\.$")
    for held in drawn(1500):
        request = asked.search(held.turns[0][1])
        if request and len(held.turns) == 2:
            for name in re.findall(r"[A-Z][a-z]+", request[1]):
                assert name in held.turns[1][1], held


def test_an_answer_names_nobody_and_nothing_that_was_not_told():
    lists = chats()[0][1].lists
    told_words = {entry.text for kind in ("name", "thing", "color") for entry in lists[kind]}
    for held in drawn(1500):
        if " story about " in held.turns[0][1]:
            continue
        before = ""
        for role, content in held.turns:
            words = set(re.findall(r"[A-Za-z]+", content))
            if role == "assistant":
                assert words & told_words <= set(re.findall(r"[A-Za-z]+", before)), held
            before += " " + content


def test_documents_are_independent_draws():
    some = list(itertools.islice(conversations(2, 10**9), 5))
    assert some == list(conversations(2, 10_000))[:5]
    assert some != list(itertools.islice(conversations(3, 10**9), 5))
