"""Documents and conversations streamed from data sets of the Hugging Face hub.

In: "hf:owner/name:split?column=text&bytes=50MB", a folder laid out as the hub has it, or the name
of a usual set. Out: documents, conversations, and the commit they came from.
"""

import importlib.util
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, NoReturn, TypeVar
from urllib.parse import parse_qsl

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.chat import conversation
from tinymemorylm.corpus.local import text_fault
from tinymemorylm.corpus.size import parse_size
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.files import file_sha256
from tinymemorylm.progress import log
from tinymemorylm.tokenizer import Message

TEXT_COLUMNS = ("text", "content", "story", "document", "article", "body")
"""Columns taken for the text when none is named, the first that is there."""
HOW_TO_WRITE = "write hf:owner/name[:split][?column=NAME&bytes=50MB&config=NAME&revision=NAME]"
T = TypeVar("T")


@dataclass(frozen=True)
class HubSource:
    """A data set, and which part of it. n_bytes: stop once so much text has come; None: never."""

    dataset: str
    split: str = "train"
    config: str | None = None
    column: str | None = None
    n_bytes: int | None = None
    revision: str | None = None

    def __str__(self) -> str:
        options = {
            "config": self.config,
            "column": self.column,
            "bytes": self.n_bytes,
            "revision": self.revision,
        }
        said = "&".join(f"{name}={value}" for name, value in options.items() if value is not None)
        return f"hf:{self.dataset}:{self.split}" + (f"?{said}" if said else "")


SHORTCUTS = {
    "tinystories": HubSource("roneneldan/TinyStories", n_bytes=100 * 10**6),
    "fineweb-edu": HubSource(
        "HuggingFaceFW/fineweb-edu", config="sample-10BT", n_bytes=100 * 10**6
    ),
    "alpaca": HubSource("tatsu-lab/alpaca"),
    "dolly": HubSource("databricks/databricks-dolly-15k"),
}
"""Usual sets by name; licences in docs/data.md. The large ones stop at 100 MB unless told."""


def parse_hub(source: str) -> HubSource | None:
    """What a source names; None for a source of another kind.

    A file or folder of a shortcut's name comes before the shortcut. Raises InputError when it is
    malformed.
    """
    rest = source.removeprefix("hf:")
    body, _, options = rest.partition("?")
    name, _, split = body.partition(":")
    if rest == source and (name not in SHORTCUTS or Path(source).exists()):
        return None
    found = SHORTCUTS.get(name, HubSource(name))
    if found.dataset.count("/") != 1 and not (name and Path(name).is_dir()):
        raise InputError(f"{source}: {HOW_TO_WRITE}, or one of {', '.join(SHORTCUTS)}")
    if split:
        found = replace(found, split=split)
    for key, value in parse_qsl(options, keep_blank_values=True):
        found = _with_option(source, found, key, value)
    return found


def _with_option(source: str, found: HubSource, key: str, value: str) -> HubSource:
    if key == "bytes":
        size = parse_size(value)
        if size is None and value != "all":
            raise InputError(f"{source}: bytes={value} is no size; write bytes=50MB or bytes=all")
        return replace(found, n_bytes=size)
    if key not in ("column", "config", "revision") or not value:
        raise InputError(f"{source}: unknown option {key}={value}; {HOW_TO_WRITE}")
    return replace(found, **{key: value})


def check_hub(source: HubSource) -> None:
    """Raises InputError if the extra isn't installed."""
    if importlib.util.find_spec("datasets") is None:
        raise InputError(f"{source}: reading the hub needs pip install 'tinymemorylm[hub]'")


def read_hub(source: HubSource, *, bad: BadInput) -> Iterator[str]:
    """The documents of a data set, in its order, one at a time.

    Raises InputError for a data set that can't be had or has no text column, and for bad rows
    unless `bad` skips them; RunError if the connection breaks.
    """

    def texts() -> Iterator[str]:
        for where, row in _rows(source, bad, lambda columns: [_text_column(source, columns)]):
            (name, text), *_ = row.items()
            if fault := text_fault(text):
                bad.report(where, f'"{name}" {fault}')
            elif not text.isspace() and text:
                yield text

    yield from _up_to(source.n_bytes, texts(), lambda text: len(text.encode()))


def read_hub_chat(source: HubSource, *, bad: BadInput) -> Iterator[list[Message]]:
    """The conversations of a data set, in any shape `corpus.chat` knows.

    A column, if named, is taken for the list of messages. Raises as `read_hub` does.
    """

    def chats() -> Iterator[list[Message]]:
        for where, row in _rows(source, bad, lambda columns: _chat_columns(source, columns)):
            try:
                found = conversation({"messages": row[source.column]} if source.column else row)
            except InputError as error:
                bad.report(where, str(error))
            else:
                yield found

    yield from _up_to(
        source.n_bytes, chats(), lambda chat: sum(len(m.content.encode()) for m in chat)
    )


def hub_digests(source: HubSource) -> dict[str, str]:
    """The data set's commit, or the sha256 of each file of a local folder: provenance."""
    folder = Path(source.dataset)
    if not folder.is_dir():
        return {str(source): _located(source.dataset, source.revision)[1]}
    files = (file for file in sorted(folder.rglob("*")) if file.is_file())
    visible = (f for f in files if not any(p.startswith(".") for p in f.relative_to(folder).parts))
    return {str(file): file_sha256(file) for file in visible}


def _up_to(limit: int | None, items: Iterable[T], size: Callable[[T], int]) -> Iterator[T]:
    """Whole items until `limit` bytes have come."""
    total = 0
    for item in items:
        yield item
        total += size(item)
        if limit is not None and total >= limit:
            return


# ---------------------------------------------------------------- columns


def _text_column(source: HubSource, columns: list[str]) -> str:
    if source.column is not None:
        return _named_column(source, columns)
    found = next((name for name in TEXT_COLUMNS if name in columns), None)
    if found is None:
        raise InputError(
            f"{source}: no text column among {', '.join(columns)}; name one with ?column=NAME"
        )
    return found


def _named_column(source: HubSource, columns: list[str]) -> str:
    if source.column not in columns:
        raise InputError(f"{source}: no column {source.column} among {', '.join(columns)}")
    return source.column


def _chat_columns(source: HubSource, columns: list[str]) -> list[str]:
    return [_named_column(source, columns)] if source.column is not None else columns


# ---------------------------------------------------------------- rows


def _rows(
    source: HubSource, bad: BadInput, choose: Callable[[list[str]], list[str]]
) -> Iterator[tuple[str, dict[str, Any]]]:
    """Rows of the chosen columns, each with its "source:row" from 1; never all in memory."""
    import datasets

    datasets.disable_progress_bars()
    datasets.logging.set_verbosity(datasets.logging.CRITICAL)  # our own line says it
    path, commit = _located(source.dataset, source.revision)
    number = 0
    try:
        stream = _opened(source, path, commit)
        columns = stream.column_names or list(next(iter(stream), {}))
        if columns:
            for number, row in enumerate(stream.select_columns(choose(columns)), start=1):
                yield f"{source}:{number}", row
    except InputError:
        raise
    except (ValueError, EOFError, zlib.error, lzma.LZMAError) as error:  # ArrowInvalid is one
        bad.report(f"{source}:{number + 1}", f"corrupt data: {_one_line(error)}")
    except Exception as error:
        # pyarrow says plain OSError for broken pages; lost connections have kinds of their own.
        broken = type(error) is OSError or type(error).__module__.startswith("datasets")
        if broken or Path(path).is_dir():
            bad.report(f"{source}:{number + 1}", f"corrupt data: {_one_line(error)}")
            return
        raise RunError(
            f"{source}: reading broke off after row {number} ({_one_line(error)}); try again, or "
            + _download(source.dataset)
        ) from None
    else:
        if not number:
            bad.report(str(source), "empty data set: nothing to read in it")


def _opened(source: HubSource, path: str, commit: str) -> Any:
    import datasets

    revision = commit if path == source.dataset and not Path(path).is_dir() else None
    try:
        return datasets.load_dataset(
            path, source.config, split=source.split, revision=revision, streaming=True
        )
    except (ValueError, FileNotFoundError) as error:  # no such split, config or data files
        raise InputError(f"{source}: {_one_line(error)}") from None


@cache  # so that every pass over the data reads the same commit
def _located(dataset: str, revision: str | None) -> tuple[str, str]:
    """What to open, and its commit: the hub's own, or a copy that `hf download` left here."""
    if Path(dataset).is_dir():
        return dataset, ""
    import huggingface_hub
    from huggingface_hub import errors

    try:
        info = huggingface_hub.HfApi().dataset_info(dataset, revision=revision, timeout=20)
        return dataset, info.sha or ""
    except errors.GatedRepoError:
        _refuse(dataset, "you have to accept its terms on the hub and `hf auth login`")
    except errors.RepositoryNotFoundError:
        _refuse(dataset, "no such data set on the hub (or a private one: `hf auth login`)")
    except errors.RevisionNotFoundError:
        _refuse(dataset, f"it has no revision {revision}")
    except errors.HFValidationError as error:
        _refuse(dataset, _one_line(error))
    except Exception as error:  # offline, or any kind of the HTTP client's: it can't be reached
        return _local_copy(dataset, revision, _one_line(error))


def _local_copy(dataset: str, revision: str | None, why: str) -> tuple[str, str]:
    import huggingface_hub

    try:
        folder = huggingface_hub.snapshot_download(
            dataset, repo_type="dataset", revision=revision, local_files_only=True
        )
    except Exception:
        _refuse(dataset, f"the hub can't be reached ({why}); " + _download(dataset))
    log(f"hf:{dataset}: the hub can't be reached; reading the downloaded copy in {folder}")
    return folder, Path(folder).name


def _download(dataset: str) -> str:
    return (
        f"where there is a network `hf download {dataset} --repo-type dataset --local-dir DIR`, "
        "then name hf:DIR"
    )


def _refuse(dataset: str, why: str) -> NoReturn:
    raise InputError(f"hf:{dataset}: {why}") from None


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__
