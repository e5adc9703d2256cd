"""Documents from files on this machine: text, JSON lines and Parquet, compressed or not.

In: a file, a folder or a glob. Out: documents, one at a time; faults go to a BadInput.
"""

import glob
import gzip
import json
import lzma
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeVar, cast

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.errors import InputError

DOCUMENT_SEPARATOR = "<|endoftext|>"
COMPRESSIONS = (".gz", ".xz", ".zst")
FORMATS = (".txt", ".jsonl", ".parquet")
_BLOCK_BYTES = 1 << 16
_PARQUET_ROWS = 1024
T = TypeVar("T")


class UnreadableError(Exception):
    """A file's bytes give out; its arguments are where ("file:line") and why."""


def file_format(path: Path) -> str | None:
    """The suffix that says how to read the file, less its compression; None if unknown."""
    suffixes = [suffix.lower() for suffix in path.suffixes]
    if suffixes and suffixes[-1] in COMPRESSIONS:
        inner = suffixes[-2] if len(suffixes) > 1 else ""
        return inner if inner in (".txt", ".jsonl") else None
    return suffixes[-1] if suffixes and suffixes[-1] in FORMATS else None


def find_files(path: str, formats: tuple[str, ...] = FORMATS) -> list[Path]:
    """The files a path, folder or glob names, sorted; in folders only those of known suffixes.

    Raises InputError when nothing is there.
    """
    place = Path(path).expanduser()
    if place.is_dir():
        found = _in_folder(place, formats)
    elif place.exists():
        found = [place]
    elif glob.has_magic(path):
        # Unlike Path.glob, this leaves hidden files out.
        matches = (Path(match) for match in glob.glob(str(place), recursive=True))  # noqa: PTH207
        found = [f for m in matches for f in (_in_folder(m, formats) if m.is_dir() else [m])]
    else:
        raise InputError(f"{path}: no such file or folder")
    if not found:
        raise InputError(f"{path}: no file of a kind that can be read ({', '.join(formats)})")
    return sorted(set(found))


def _in_folder(folder: Path, formats: tuple[str, ...]) -> list[Path]:
    files = (file for file in folder.rglob("*") if file.is_file())
    visible = (f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts))
    return [file for file in visible if file_format(file) in formats]


def read_local(
    path: str, *, document_separator: str = DOCUMENT_SEPARATOR, bad: BadInput
) -> Iterator[str]:
    """The documents of a file, a folder or a glob, in sorted order of the files.

    `document_separator` is for text files: a line holding only it divides documents; "blank" means
    blank lines, "line" makes each line a document. Documents of whitespace only are left out.
    Raises InputError for a missing path, and for bad input unless `bad` skips it.
    """
    if not document_separator.strip() or "\n" in document_separator:
        raise InputError(
            f"document separator {document_separator!r}: give one line of text, blank or line"
        )
    for file in find_files(path):
        yield from _documents(file, document_separator, bad)


def _documents(file: Path, separator: str, bad: BadInput) -> Iterator[str]:
    match file_format(file):
        case ".txt":
            documents = _split_lines(read_lines(file, bad), separator)
        case ".jsonl":
            documents = _texts(read_objects(file, bad), bad)
        case ".parquet":
            documents = _texts(read_rows(file, ["text"], bad), bad)
        case _:
            bad.report(str(file), f"unknown suffix: use {', '.join(FORMATS)} (or .gz, .xz, .zst)")
            return
    yield from reporting_faults(file, (d for d in documents if d and not d.isspace()), bad)


def reporting_faults(file: Path, found: Iterable[T], bad: BadInput) -> Iterator[T]:
    """Pass on what is found in a file; report it if that is nothing, or if its bytes give out."""
    faults, empty = bad.count, True
    try:
        for item in found:
            empty = False
            yield item
    except UnreadableError as error:
        bad.report(*error.args)
    if empty and bad.count == faults:
        bad.report(str(file), "empty file: nothing to read in it")


# ---------------------------------------------------------------- bytes and lines


def _blocks(path: Path) -> Iterator[bytes]:
    compression = path.suffix.lower()
    if compression == ".zst":
        yield from _zstd_blocks(path)
        return
    openers = {".gz": gzip.open, ".xz": lzma.open}
    with cast(BinaryIO, openers.get(compression, open)(path, "rb")) as file:
        while block := file.read(_BLOCK_BYTES):
            yield block


def _zstd_blocks(path: Path) -> Iterator[bytes]:
    try:
        import zstandard
    except ImportError:
        raise InputError(f"{path}: reading .zst needs pip install 'tinymemorylm[zstd]'") from None
    with path.open("rb") as file:
        pending = file.read(_BLOCK_BYTES)
        while pending:
            frame = zstandard.ZstdDecompressor().decompressobj()
            try:
                while pending and not frame.eof:
                    yield frame.decompress(pending)
                    pending = frame.unused_data or file.read(_BLOCK_BYTES)
            except zstandard.ZstdError as error:
                raise EOFError(str(error)) from None
            # The stream reader of zstandard would take a file cut short for a whole one.
            if not frame.eof:
                raise EOFError("the file ends before its data does")


def _raw_lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Lines with their newlines; only "\\n" ends a line."""
    begun: list[bytes] = []
    for block in blocks:
        first, *rest = block.split(b"\n")
        if not rest:
            begun.append(first)
            continue
        yield b"".join((*begun, first, b"\n"))
        for line in rest[:-1]:
            yield line + b"\n"
        begun = [rest[-1]] if rest[-1] else []
    if begun:
        yield b"".join(begun)


def read_lines(path: Path, bad: BadInput) -> Iterator[tuple[int, str]]:
    """Numbered lines of a text file, newlines kept, a byte order mark at its beginning dropped.

    A line that is not UTF-8 is reported and left out. Raises UnreadableError when the file cannot
    be opened or its compressed data is corrupt.
    """
    number = 0
    try:
        for number, raw in enumerate(_raw_lines(_blocks(path)), start=1):
            try:
                line = raw.decode()
            except UnicodeDecodeError as error:
                bad.report(f"{path}:{number}", f"not UTF-8 at byte {error.start + 1} of the line")
                continue
            yield number, line.removeprefix("\ufeff") if number == 1 else line
    except (EOFError, lzma.LZMAError, zlib.error, gzip.BadGzipFile) as error:
        raise UnreadableError(f"{path}:{number + 1}", f"corrupt compressed data: {error}") from None
    except OSError as error:
        raise UnreadableError(f"{path}:{number + 1}", f"cannot be read: {error.strerror}") from None


# ---------------------------------------------------------------- text


def _split_lines(lines: Iterable[tuple[int, str]], separator: str) -> Iterator[str]:
    """Group lines into documents; a separator takes the newline before it and its own along."""
    if separator == "line":
        yield from (line.rstrip("\r\n") for _, line in lines)
        return
    held: list[str] = []
    for _, line in lines:
        content = line.rstrip("\r\n")
        if content == separator or (separator == "blank" and not content.strip()):
            yield _without_newline("".join(held))
            held = []
        else:
            held.append(line)
    text = "".join(held)
    yield _without_newline(text) if separator == "blank" else text


def _without_newline(text: str) -> str:
    return text.removesuffix("\n").removesuffix("\r")


# ---------------------------------------------------------------- JSON lines and Parquet


def read_objects(path: Path, bad: BadInput) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a .jsonl file, each with its "file:line"; blank lines are passed over."""
    for number, line in read_lines(path, bad):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            value = json.loads(line)
        except json.JSONDecodeError as error:
            bad.report(where, f"not a line of JSON: {error.msg} at column {error.colno}")
            continue
        except (ValueError, RecursionError) as error:
            bad.report(where, f"not a line of JSON: {error}")
            continue
        if isinstance(value, dict):
            yield where, value
        else:
            bad.report(where, "not a JSON object")


def text_fault(text: Any) -> str | None:
    """What keeps a value from being used as text, or None."""
    if not isinstance(text, str):
        return "is missing" if text is None else "is not a string"
    try:
        text.encode()
    except UnicodeEncodeError:
        return "holds half of a surrogate pair, which is no character"
    return None


def _texts(records: Iterable[tuple[str, dict[str, Any]]], bad: BadInput) -> Iterator[str]:
    for where, value in records:
        if fault := text_fault(value.get("text")):
            bad.report(where, f'"text" {fault}')
        else:
            yield value["text"]


def read_rows(
    path: Path, columns: Sequence[str], bad: BadInput
) -> Iterator[tuple[str, dict[str, Any]]]:
    """These columns of a .parquet file's rows, each row with its "file:row".

    A file that lacks one of them is reported. Raises UnreadableError when its data is corrupt.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise InputError(
            f"{path}: reading .parquet needs pip install 'tinymemorylm[parquet]'"
        ) from None
    row = 0
    try:
        with pq.ParquetFile(path) as file:
            if missing := [name for name in columns if name not in file.schema_arrow.names]:
                bad.report(str(path), f'it has no "{missing[0]}" column')
                return
            batches = file.iter_batches(batch_size=_PARQUET_ROWS, columns=list(columns))
            rows = (value for batch in batches for value in batch.to_pylist())
            for row, value in enumerate(rows, start=1):
                yield f"{path}:{row}", value
    except (pa.ArrowException, OSError) as error:
        raise UnreadableError(f"{path}:{row + 1}", f"corrupt Parquet data: {error}") from None


def read_records(
    path: Path, fields: Sequence[str], bad: BadInput
) -> Iterator[tuple[str, dict[str, Any]]]:
    """The objects of a .jsonl file or the rows of a .parquet file, each with where it stands."""
    parquet = file_format(path) == ".parquet"
    return read_rows(path, fields, bad) if parquet else read_objects(path, bad)
