"""Conversations about stories: somebody tells one and asks, or asks for one.

In: choices. Out: a `Conversation`, turns of user and assistant, with its exact bits.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.grammar import TURN, Grammar, Telling
from tinymemorylm.corpus.storyworld.names import N_STRANGE
from tinymemorylm.corpus.storyworld.stories import grammars, plots

STORY_SHARE = 0.35  # of all conversations; the rest is everyday talk
STRANGE_SHARE = 0.5  # of the names in short conversations
LONG_SHARE = 0.1  # of those about stories: a whole story, asked for or asked about


@dataclass(frozen=True)
class Conversation:
    """(role, content) turns, "user" and "assistant" in alternation, and their bits."""

    turns: tuple[tuple[str, str], ...]
    bits: float


@cache
def chats() -> tuple[tuple[str, Grammar], ...]:
    """Every kind of short conversation, by name."""
    return tuple(grammars("chats", N_STRANGE, STRANGE_SHARE).items())


def story_conversation(choices: Choices) -> Conversation:
    """One independent draw."""
    before = choices.bits
    kinds = choices.weighted([(chats(), 1 - LONG_SHARE), (plots(), LONG_SHARE)])
    _, grammar = choices.pick(kinds)
    contents = Telling(grammar, choices).tell("chat").split(TURN)
    roles = ["user", "assistant"] * (len(contents) // 2)
    return Conversation(tuple(zip(roles, contents, strict=True)), choices.bits - before)


def conversation(choices: Choices) -> Conversation:
    """One independent draw, about a story or everyday things."""
    from tinymemorylm.corpus.storyworld.talk import talk

    before = choices.bits
    about = choices.weighted([("story", STORY_SHARE), ("talk", 1 - STORY_SHARE)])
    turns = story_conversation(choices).turns if about == "story" else tuple(talk(choices))
    return Conversation(turns, choices.bits - before)


def conversations(seed: int, n_bytes: int) -> Iterator[Conversation]:
    """Conversations until their contents hold `n_bytes` of UTF-8; the last one is whole."""
    index = written = 0
    while written < n_bytes:
        held = conversation(Choices(f"conversation:{seed}:{index}"))
        yield held
        written += sum(len(content.encode()) for _, content in held.turns)
        index += 1
