"""Words, and which of them are known, so that invented ones can be counted.

In: texts. Out: their words; those a model may know.
"""

import re
from collections.abc import Iterable
from importlib import resources
from itertools import chain
from pathlib import Path

import numpy as np

from tinymemorylm.tokenizer import WORD, Tokenizer

_WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)*")


def words(text: str) -> list[str]:
    """The words of a text in lower case: letters and digits, apostrophes within."""
    return _WORD.findall(text.lower().replace("\u2019", "'"))


def known_words(tokenizer: Tokenizer, texts: Iterable[str]) -> set[str]:
    """The words of the texts, and those the tokenizer has an entry for."""
    ids = np.flatnonzero(tokenizer.classes == WORD).tolist()
    entries = (tokenizer.token_bytes(id).decode() for id in ids)
    return {word for text in chain(entries, texts) for word in words(text)}


def storyworld_words() -> list[str]:
    """The procedural corpus' word tables and grammars, as texts: instant, and always at hand."""
    root = Path(str(resources.files("tinymemorylm.corpus.storyworld")))
    return [path.read_text("utf-8") for path in sorted(root.rglob("*.toml"))]


def invented(text: str, known: set[str]) -> tuple[int, int]:
    """How many of the text's words of letters aren't known, and how many there are.

    With a word its form in 's is known too.
    """
    spelled = [word for word in words(text) if word.replace("'", "").isalpha()]
    return sum(not {w, w.removesuffix("'s")} & known for w in spelled), len(spelled)
