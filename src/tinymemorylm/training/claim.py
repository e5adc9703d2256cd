"""A run's directory in the hands of one process, and what the system refuses it there.

In: a directory. Out: it is ours until the block ends or the process does, however that comes
about: the kernel holds the lock, the file only says who has it. A full disk and its like become
one line that says where the run can go on.
"""

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tinymemorylm.errors import InputError, RunError
from tinymemorylm.files import remove_temporaries
from tinymemorylm.progress import log

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOCK = ".lock"


@contextmanager
def claimed(run: Path, *, resume: bool) -> Iterator[None]:
    """Make or enter a run's directory, alone. One that we made and left empty goes again.

    Raises InputError if another process has it, or if it is not empty and nothing is to be
    resumed; RunError for what the system refuses within the block.
    """
    existed = run.exists()
    _check_empty(run, resume)
    try:
        run.mkdir(parents=True, exist_ok=True)
        with only_process(run):
            _check_empty(run, resume)  # another may have been here first
            remove_temporaries(run)
            yield
    except BrokenPipeError:  # not of a file: whoever read our output has left
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RunError(
            f"{run}: {error.strerror or error}{where}; what it saved is kept: put that right, "
            "then --resume"
        ) from None
    finally:
        if not existed:
            with suppress(OSError):
                run.rmdir()


def _check_empty(run: Path, resume: bool) -> None:
    if not resume and run.exists() and any(path.name != LOCK for path in run.iterdir()):
        raise InputError(f"{run} is not empty; --resume to go on with it, or name another --out")


@contextmanager
def only_process(run: Path) -> Iterator[None]:
    """Raises InputError, naming the process, while another one has the directory.

    A lock left by a killed process is none. Where the file system can't lock, a warning says so.
    """
    path = run / LOCK
    descriptor = _locked(path)
    try:
        yield
    finally:
        if descriptor is not None:
            with suppress(OSError):
                path.unlink(missing_ok=True)  # while it is still ours
            os.close(descriptor)


def _locked(path: Path) -> int | None:
    if fcntl is None:
        log(f"{path.parent} can't be locked on this system; start no second process on it")
        return None
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            owner = os.read(descriptor, 200).decode(errors="replace").strip() or "another process"
            os.close(descriptor)
            raise InputError(
                f"{path.parent} is in use by {owner}; wait for it, or name another --out"
            ) from None
        except OSError as error:
            os.close(descriptor)
            log(f"{path.parent} can't be locked ({error.strerror}); start no second process on it")
            return None
        if _is_file(descriptor, path):
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode())
            return descriptor
        os.close(descriptor)  # its owner left and took the file along; look again


def _is_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False
