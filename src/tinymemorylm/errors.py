"""The two errors a user is meant to read; the command line prints each as one line.

Everything else that escapes is a bug and keeps its traceback.
"""


class InputError(ValueError):
    """What the user gave can't be used: name the value and the fix. Exit code 2."""


class RunError(RuntimeError):
    """The work itself failed (loss not finite, disk full). Exit code 1."""
