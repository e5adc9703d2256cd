import math

from rich.console import Console

from tinymemorylm.commands.token_view import (
    SURPRISE_STYLES,
    print_surprise,
    surprise_style,
    whole_characters,
)
from tinymemorylm.language_model import ScoredToken
from tinymemorylm.splitting import TokenClass
from tinymemorylm.terminal_text import printable, visible


def scored(spelled: bytes, bits: float, token_class: TokenClass = "character") -> ScoredToken:
    return ScoredToken(9, spelled.decode("latin-1"), spelled, token_class, -bits * math.log(2))


def test_the_bytes_of_a_character_are_shown_as_it_with_their_summed_surprise():
    parts = [scored(bytes([byte]), 3) for byte in "é".encode()]
    assert [text for text, _ in whole_characters([scored(b"a", 1), *parts])] == ["a", "é"]
    console = Console(force_terminal=True, color_system="256", width=80)
    with console.capture() as captured:
        print_surprise(console, [*parts, scored(b" cat", 30, "word"), scored(b"\n", 1)])
    out = captured.get()
    assert out.startswith("\x1b[4;30;48;5;221mé\x1b[0m\x1b[37;48;5;124m cat\x1b[0m")
    assert "⏎" in out


def test_more_surprise_is_a_later_style():
    styles = [surprise_style(bits) for bits in (0, 1.9, 2, 5, 10, 11, math.inf)]
    order = [style for _, style in SURPRISE_STYLES]
    assert [order.index(style) for style in styles] == [0, 0, 1, 2, 3, 4, 4]


def test_nothing_in_a_text_steers_the_terminal():
    assert printable("a\x1b[2J\x9b\tb\r\n") == "a\ufffd[2J\ufffd\tb\ufffd\n"
    assert visible("a\n\tb") == "a⏎\n→\tb"
