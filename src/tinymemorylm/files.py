"""Writing files so that a reader sees the old one or the new one, never half of either.

In: a path and a way to fill it. Out: the file, written under a temporary name in the same
folder, flushed to the disk, then renamed.
"""

import hashlib
import json
import os
import shutil
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from tinymemorylm.errors import InputError, shown


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk: a rename is durable only after this."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open `path` for binary writing; it appears, whole, when the block ends without an error."""
    with replaced_file(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def replaced_file(path: Path) -> Iterator[Path]:
    """A name to write under, for libraries that open files themselves; then as `atomic_file`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_folder(path.parent)
    finally:
        with suppress(OSError):  # what went wrong before says more
            temporary.unlink(missing_ok=True)


def temporary_name(path: Path) -> Path:
    """Where `path` is made before it is renamed; `remove_temporaries` knows such names."""
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def remove_temporaries(folder: Path) -> None:
    """Drop what killed processes left half made, at any depth; no other may be writing there."""
    for path in list(folder.rglob(".*.tmp")):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def shipped(path: str) -> Path:
    """Where a file that comes with the project lies: in the package, or in its source tree."""
    package = Path(__file__).parent
    installed = package / path
    return installed if installed.exists() else package.parents[1] / path


def released_model() -> Path:
    """The model directory that comes with the project."""
    return shipped("release/haiku")


def write_text(path: Path, text: str) -> None:
    with atomic_file(path) as file:
        file.write(text.encode())


def write_json(path: Path, value: Any) -> None:
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """What a JSON file holds. Raises InputError if it can't be read or isn't JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # not only of JSON: UTF-8, numbers too long
        raise InputError(f"{path}: not valid JSON: {shown(str(error))}") from None


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds. Raises InputError if it can't be read or isn't TOML."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} can't be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: not valid TOML: {shown(str(error))}") from None


def file_sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
