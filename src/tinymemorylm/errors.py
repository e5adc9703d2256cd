"""The two errors a user is meant to read; the command line prints each as one line.

Everything else that escapes is a bug and keeps its traceback.
"""

MOST_SHOWN = 80


class InputError(ValueError):
    """What the user gave can't be used: name the value and the fix. Exit code 2."""

    said = False
    """Whether another process of the run says it."""


class RunError(RuntimeError):
    """The work itself failed (loss not finite, disk full). Exit code 1."""

    said = False


def shown(value: object) -> str:
    """A value as an error names it: on one line and not longer than one."""
    text = " ".join((value if isinstance(value, str) else repr(value)).split())
    return text if len(text) <= MOST_SHOWN else text[: MOST_SHOWN - 3] + "..."
