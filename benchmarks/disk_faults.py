"""A disk that fails a run: calls refused now and then, and limits the system really sets.

In: a recipe and what it comes to undisturbed. Out: how often a run was stopped, and what it lost.
"""

import errno
import os
import resource
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from run_checks import broken, differences, in_child, newest
from tinymemorylm.config import Recipe
from tinymemorylm.errors import RunError
from tinymemorylm.training import loop
from tinymemorylm.training.phases import train


class FaultyFile:
    """A file whose writes go through `gate`; one refused has written half."""

    def __init__(self, file: Any, gate: Callable[[], None]) -> None:
        self._file, self._gate = file, gate

    def __enter__(self):
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def write(self, content: bytes) -> int:
        try:
            self._gate()
        except OSError:
            self._file.write(content[: len(content) // 2])
            raise
        return self._file.write(content)


@contextmanager
def failing(call: str, every: int, code: int) -> Iterator[Counter[str]]:
    """Within: every n-th write, fsync or rename of this process fails with an errno."""
    count = Counter[str]()

    def gate() -> None:
        count["calls"] += 1
        if count["calls"] % every == 0:
            count["faults"] += 1
            raise OSError(code, os.strerror(code))

    def gated(original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*args: Any, **kwargs: Any) -> Any:
            gate()
            return original(*args, **kwargs)

        return function

    def opened(path: Path, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        file = original_open(path, mode, *args, **kwargs)
        return FaultyFile(file, gate) if mode in ("wb", "ab") else file

    original_open = Path.open
    if call == "write":
        with mock.patch.object(Path, "open", opened):
            yield count
    elif call == "fsync":
        with mock.patch.object(os, "fsync", gated(os.fsync)):
            yield count
    else:
        with (
            mock.patch.object(os, "rename", gated(os.rename)),
            mock.patch.object(os, "replace", gated(os.replace)),
        ):
            yield count


def disk(recipe: Recipe, run: Path, reference: Path, call: str, every: int, code: int):
    """Go on through faults until the run is finished; each must be one clear line."""
    losses: list[str] = []
    said, attempts, saved = set[str](), 0, -1
    with failing(call, every, code) as count:
        while attempts < 60:
            attempts += 1
            try:
                train(recipe, run, resume=True, device="cpu")
                break
            except RunError as error:
                said.add(str(error))
                if os.strerror(code) not in str(error) or "\n" in str(error):
                    losses.append(f"not one clear line: {error}")
            losses += broken(run, saved)
            saved = newest(run)
    train(recipe, run, resume=True, device="cpu")
    losses += [f"{loss} differs" for loss in differences(run, reference)]
    result = {"call": call, "every": every, "errno": errno.errorcode[code]}
    return result | {"faults": count["faults"], "stops": len(said), "losses": losses}


# ---------------------------------------------------------------- limits of the system


def no_more_files(run: Path) -> None:
    """Not one file more than are open now, and no room in the table."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, 0))


def no_larger_files(run: Path) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))


def no_permission(run: Path) -> None:
    """The directory is someone else's from now on."""
    if os.geteuid() == 0:  # who may write anywhere
        os.seteuid(65534)
    for folder in (run, run / "checkpoints"):
        with suppress(PermissionError):
            folder.chmod(0o500)


LIMITS = {
    "out of file handles": (no_more_files, errno.EMFILE),
    "no room in the file": (no_larger_files, errno.EFBIG),
    "permission lost": (no_permission, errno.EACCES),
}


def limited(recipe: Recipe, stopped: Path, folder: Path, reference: Path, what: str):
    """Go on from where a run stopped until a limit set in mid-run stops it; then without."""
    run, log = folder / "limited", folder / "limited.log"
    set_limit, code = LIMITS[what]
    shutil.copytree(stopped, run)
    log.write_text("")

    def work() -> None:
        def step(*args: Any, **kwargs: Any) -> Any:
            set_limit(run)
            return original(*args, **kwargs)

        original = loop.train_step
        with mock.patch.object(loop, "train_step", step):
            train(recipe, run, resume=True, device="cpu")

    before = newest(run)
    _, status = os.waitpid(in_child(work, log), 0)
    for place in (run, run / "checkpoints"):
        place.chmod(0o755)
    said = log.read_text().splitlines()[-1:]
    losses = broken(run, before)
    if status == 0 or not said or f"RunError: {run}: {os.strerror(code)}" not in said[0]:
        losses.append(f"not one clear line: {said}")
    train(recipe, run, resume=True, device="cpu")
    losses += [f"{loss} differs" for loss in differences(run, reference)]
    shutil.rmtree(run)
    return {"limit": what, "losses": losses}
