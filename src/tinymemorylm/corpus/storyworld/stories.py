"""Short stories: one plot of many, told by its grammar.

In: choices. Out: a `Story` with its text, its exact information in bits and what it tells.
"""

import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.grammar import Entry, Grammar, Telling, load
from tinymemorylm.corpus.storyworld.names import listed_names, strange_names

PRONOUNS = {
    "she": {"he": "she", "him": "her", "his": "her", "girl": "girl", "son": "daughter"},
    "he": {"he": "he", "him": "him", "his": "his", "girl": "boy", "son": "son"},
}
N_STRANGE, STRANGE_SHARE = 500, 0.12  # strange names in stories, and their share


@dataclass(frozen=True)
class Story:
    """A story; `facts` are (key, text) pairs, such as ("A", "Tamsu") or ("spot", "by the gate")."""

    text: str
    bits: float
    facts: tuple[tuple[str, str], ...]


def grammars(folder: str, n_strange: int, strange_share: float) -> dict[str, Grammar]:
    """The grammars in a data folder by file name, each over the shared words and phrases."""
    root = resources.files("tinymemorylm.corpus.storyworld")
    shared = [_toml(root / "lexicon.toml"), _toml(root / "phrases.toml")]
    files = sorted((root / folder).iterdir(), key=lambda file: file.name)
    found = {file.name.removesuffix(".toml"): load(*shared, _toml(file)) for file in files}
    for grammar in found.values():
        grammar.lists["name"] = _people(listed_names())
        grammar.rare["name"] = (_people(strange_names()[:n_strange]), strange_share)
    return found


def _people(names: Sequence[tuple[str, str]]) -> tuple[Entry, ...]:
    return tuple(
        Entry(name, {key: (word,) for key, word in PRONOUNS[pronoun].items()})
        for name, pronoun in names
    )


def _toml(file: Any) -> dict[str, Any]:
    return tomllib.loads(file.read_text("utf-8"))


@cache
def plots() -> tuple[tuple[str, Grammar], ...]:
    """Every plot, by name."""
    return tuple(grammars("plots", N_STRANGE, STRANGE_SHARE).items())


def story(choices: Choices) -> Story:
    """One independent draw."""
    before = choices.bits
    plot, grammar = choices.pick(plots())
    telling = Telling(grammar, choices)
    text = telling.tell("story")
    return Story(text, choices.bits - before, (("plot", plot), *telling.memory.items()))


def stories(seed: int, n_bytes: int) -> Iterator[Story]:
    """Stories until their texts hold `n_bytes` of UTF-8; the one that gets there is whole."""
    index = written = 0
    while written < n_bytes:
        told = story(Choices(f"story:{seed}:{index}"))
        yield told
        written += len(told.text.encode())
        index += 1
