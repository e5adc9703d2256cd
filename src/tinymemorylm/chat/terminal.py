"""The chat's ends: lines in from a terminal or a pipe, an answer out token by token.

In: a session and what answers it. Out: text on stdout; notices dimmed on a terminal, else on
stderr.
"""

import contextlib
import itertools
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, BinaryIO

from tinymemorylm.chat.session import ChatSession
from tinymemorylm.errors import InputError
from tinymemorylm.progress import log
from tinymemorylm.terminal_text import printable
from tinymemorylm.tokenizer import Message

LEAVING = "Ctrl-C again leaves; so do Ctrl-D and /quit"


def is_terminal() -> bool:
    """Whether a person sits at both ends."""
    return sys.stdin.isatty() and sys.stdout.isatty()


def typed_lines() -> Iterator[str]:
    """Lines from the keyboard, until its end, or Ctrl-C twice without a line between."""
    with contextlib.suppress(ImportError):
        import readline  # noqa: F401  # gives input() editing and a history
    while (line := _typed_line()) is not None:
        yield line
    print()


def _typed_line() -> str | None:
    # The second Ctrl-C may come at any moment after the first, while the notice is written too.
    with on_interrupt(signal.default_int_handler), contextlib.suppress(KeyboardInterrupt):
        try:
            return _prompted()
        except KeyboardInterrupt:
            print()
            notice(LEAVING)
        return _prompted()
    return None


def _prompted() -> str | None:
    while True:
        try:
            return input("> ")
        except EOFError:
            return None
        except UnicodeDecodeError:
            notice("that line is not UTF-8")


def piped_lines(source: BinaryIO) -> Iterator[str]:
    """Lines of a pipe or a file. Raises InputError for one that is not UTF-8."""
    for number in itertools.count(1):
        with on_interrupt(signal.default_int_handler):
            raw = source.readline()
        if not raw:
            return
        try:
            yield raw.decode()
        except UnicodeDecodeError as error:
            raise InputError(
                f"line {number} of the input is not UTF-8 at byte {error.start + 1}"
            ) from None


@contextlib.contextmanager
def on_interrupt(handler: Callable[[int, FrameType | None], Any]) -> Iterator[None]:
    """What Ctrl-C does meanwhile."""
    before = signal.signal(signal.SIGINT, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def notice(text: str) -> None:
    """A word beside the conversation."""
    if not is_terminal():
        log(text)
        return
    from rich.console import Console
    from rich.text import Text

    Console().print(Text(text, style="dim"))


@dataclass
class Conversation:
    """Runs a session. answer: the pieces of an answer to messages; called with a number for
    each attempt, so that none repeats another's draws."""

    session: ChatSession
    answer: Callable[[list[Message], int], Iterator[str]]
    attempts: int = 0
    interrupted: bool = False
    """Whether Ctrl-C came since the answer began; it raises only while a line is awaited."""

    def run(self) -> None:
        """Until the input ends. Raises InputError for piped input that is not UTF-8."""
        with on_interrupt(self._interrupt):
            self._run()

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self.interrupted = True

    def _run(self) -> None:
        for line in typed_lines() if is_terminal() else piped_lines(sys.stdin.buffer):
            try:
                outcome = self.session.handle(line)
                if outcome.notice:
                    notice(outcome.notice)
                if outcome.prompt:
                    self.session.answered(self._write_answer(outcome.prompt))
                if outcome.leave:
                    return
            except InputError as error:
                notice(str(error))

    def _write_answer(self, prompt: list[Message]) -> str:
        given, self.interrupted = "", False
        for piece in self.answer(prompt, self.attempts):
            given += piece
            sys.stdout.write(printable(piece) if is_terminal() else piece)
            sys.stdout.flush()
            if self.interrupted:
                break
        sys.stdout.write("\n")
        sys.stdout.flush()
        self.attempts += 1
        return given
