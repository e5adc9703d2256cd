"""Tokens in colour: where a text splits, which are words, which surprised the model.

In: tokens. Out: lines on a console.
"""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

from rich.console import Console
from rich.text import Text

from tinymemorylm.splitting import Token
from tinymemorylm.terminal_text import visible

if TYPE_CHECKING:
    from tinymemorylm.language_model import ScoredToken

T = TypeVar("T", bound=Token)

SURPRISE_STYLES = (
    (2.0, ""),
    (4.0, "black on #fff1b8"),
    (7.0, "black on #ffc861"),
    (11.0, "black on #f58549"),
    (math.inf, "white on #b3001b"),
)
"""Background for a surprise below so many bits."""
SPLIT_STYLES = ("black on #cfe8ff", "black on #d8f5d0")
"""Neighbouring words take turns."""
CHARACTER_STYLE = "underline"


def whole_characters(tokens: Iterable[T]) -> Iterator[tuple[str, list[T]]]:
    """Tokens with their text, those that spell one character together as one."""
    held: list[T] = []
    for token in tokens:
        held.append(token)
        try:
            text = b"".join(part.spelled for part in held).decode()
        except UnicodeDecodeError:
            continue
        yield text, held
        held = []


def print_split(console: Console, tokens: Iterable[Token]) -> None:
    """The text, words on alternating backgrounds, spelled-out characters underlined."""

    def styled() -> Iterator[tuple[str, str]]:
        words = 0
        for text, parts in whole_characters(tokens):
            if parts[0].token_class == "word":
                words += 1
                yield text, SPLIT_STYLES[words % 2]
            else:
                yield text, CHARACTER_STYLE

    _print_styled(console, styled())
    legend = Text().append("word", SPLIT_STYLES[0]).append(" ")
    legend.append("word", SPLIT_STYLES[1]).append("  ").append("character", CHARACTER_STYLE)
    console.print(legend)


def print_surprise(console: Console, tokens: Iterable["ScoredToken"]) -> None:
    """The text, the stronger the background the less the model expected it."""

    def styled() -> Iterator[tuple[str, str]]:
        for text, parts in whole_characters(tokens):
            style = surprise_style(-sum(part.logprob for part in parts) / math.log(2))
            is_word = parts[0].token_class == "word"
            yield text, style if is_word else f"{style} {CHARACTER_STYLE}".strip()

    _print_styled(console, styled())
    legend, above = Text("bits of surprise  "), 0.0
    for below, style in SURPRISE_STYLES:
        span = f" {above:.0f}-{below:.0f} " if below < math.inf else f" {above:.0f} and more "
        legend.append(span, style)
        above = below
    console.print(legend.append("   word  ").append("character", CHARACTER_STYLE))


def surprise_style(bits: float) -> str:
    return next(style for below, style in SURPRISE_STYLES if bits < below or below == math.inf)


def _print_styled(console: Console, pieces: Iterable[tuple[str, str]]) -> None:
    """Print pieces of text a line at a time, ending with a newline."""
    line = Text()
    for text, style in pieces:
        line.append(visible(text), style)
        if "\n" in text:
            console.print(line, end="", soft_wrap=True)
            line = Text()
    if line:
        console.print(line, soft_wrap=True)
