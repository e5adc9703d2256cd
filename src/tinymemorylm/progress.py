"""Progress for anything over two seconds: a live bar on a terminal, plain lines elsewhere.

In: how much is done and a few words about it. Out: text on stderr, so that stdout stays for
results.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from types import TracebackType
from typing import Self, TypeVar

T = TypeVar("T")

PLAIN_SECONDS = 10.0
"""Seconds between plain lines when stderr is not a terminal."""


_muted = False


def mute() -> None:
    """Nothing more from this process: another one of its run says it."""
    global _muted
    _muted = True


def log(text: str) -> None:
    """One line for the user, on stderr."""
    if not _muted:
        print(text, file=sys.stderr, flush=True)


class Progress:
    """`with Progress("packing", total) as p: p.update(done, "12 documents")`.

    total None: unknown. Nothing is shown of work that ends within two seconds.
    """

    def __init__(
        self, title: str, total: float | None, clock: Callable[[], float] = time.monotonic
    ):
        self.title, self.total, self.clock = title, total, clock
        self.began = self.shown = clock()
        self._first: tuple[float, float] | None = None  # done, and when: a resumed run's too
        self._bar = None

    def __enter__(self) -> Self:
        return self

    def update(self, done: float, text: str = "") -> None:
        now = self.clock()
        if self._first is None:
            self._first = done, now
        if _muted or now - self.began < 2:
            return
        if sys.stderr.isatty():
            self._show_bar(done, text)
        elif now - self.shown >= PLAIN_SECONDS or self.shown == self.began:
            self.shown = now
            share = f" {done / self.total:.0%}" if self.total else ""
            log(f"{self.title}{share}  {text}{self._left(done, now)}")

    def _left(self, done: float, now: float) -> str:
        before, began = self._first or (done, now)
        if not self.total or done <= before:
            return ""
        return f"  ETA {_clock((now - began) / (done - before) * (self.total - done))}"

    def _show_bar(self, done: float, text: str) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
        from rich.progress import Progress as Bar

        if self._bar is None:
            columns = (
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TaskProgressColumn(),
                TextColumn("{task.fields[text]}"),
                TimeRemainingColumn(),
            )
            self._bar = Bar(*columns, console=Console(stderr=True))
            self._bar.start()
            self._bar.add_task(self.title, total=self.total, text="")
        self._bar.update(self._bar.task_ids[0], completed=done, text=text)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if self._bar is not None:
            self._bar.stop()


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d}"


def watched(
    title: str, items: Iterable[T], size: Callable[[T], int], total: int | None
) -> Iterator[T]:
    """The items, with progress by their summed `size` (bytes of text, say) as they go by."""
    done = 0
    with Progress(title, total) as progress:
        for item in items:
            yield item
            done += size(item)
            progress.update(done, f"{done / 1e6:.1f} MB")
