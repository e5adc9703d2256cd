"""Text made fit for a terminal: nothing in it steers the screen, and white space can be seen.

In: any text. Out: text to print.
"""


def printable(text: str) -> str:
    """Control characters but newline and tab become U+FFFD."""
    return "".join(c if c in "\n\t" or not _is_control(c) else "\ufffd" for c in text)


def visible(text: str) -> str:
    """Newlines and tabs get a sign before them, other control characters become U+FFFD."""
    return printable(text).replace("\n", "⏎\n").replace("\t", "→\t")


def _is_control(character: str) -> bool:
    return character < " " or "\x7f" <= character <= "\x9f"
