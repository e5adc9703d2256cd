"""Text and conversations from whatever the user names as data.

In: paths, globs, or "storyworld:SEED:BYTES". Out: documents, conversations, sizes and digests.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.chat import read_chat
from tinymemorylm.corpus.local import (
    COMPRESSIONS,
    DOCUMENT_SEPARATOR,
    file_format,
    find_files,
    read_local,
)
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message

__all__ = [
    "DOCUMENT_SEPARATOR",
    "BadInput",
    "read_conversations",
    "read_documents",
    "source_digest",
    "total_bytes_hint",
]

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9}
_STORYWORLD = re.compile(r"storyworld:([0-9]{1,18}):([0-9]{1,18})([A-Za-z]*)")


def parse_storyworld(source: str) -> tuple[int, int] | None:
    """Seed and bytes of "storyworld:SEED:BYTES"; None for a source of another kind.

    Raises InputError when it is malformed, or when the source is a hub data set.
    """
    if source.startswith("hf:"):
        raise InputError(
            f"{source}: hub data sets are not supported yet; download the files and name them"
        )
    if not source.startswith("storyworld:"):
        return None
    match = _STORYWORLD.fullmatch(source)
    size = int(match[2]) * _UNITS.get(match[3].upper(), 0) if match else 0
    if not match or not size:
        raise InputError(f"{source}: write storyworld:SEED:BYTES, such as storyworld:1:4MB")
    return int(match[1]), size


def _check(sources: Sequence[str]) -> None:
    for source in sources:
        if parse_storyworld(source) is None:
            find_files(source)


def read_documents(
    sources: Sequence[str], *, document_separator: str = DOCUMENT_SEPARATOR, bad: BadInput
) -> Iterator[str]:
    """The documents of all sources, in the order given.

    Raises InputError for a malformed source or a missing path before anything is read, and for bad
    input unless `bad` skips it.
    """
    _check(sources)
    for source in sources:
        world = parse_storyworld(source)
        if world is None:
            yield from read_local(source, document_separator=document_separator, bad=bad)
        else:
            from tinymemorylm.corpus.storyworld import stories

            yield from (story.text for story in stories(*world))


def read_conversations(sources: Sequence[str], *, bad: BadInput) -> Iterator[list[Message]]:
    """The conversations of all sources, in the order given. Raises InputError as above."""
    _check(sources)
    for source in sources:
        world = parse_storyworld(source)
        if world is None:
            yield from read_chat(source, bad=bad)
        else:
            from tinymemorylm.corpus.storyworld import conversations

            for conversation in conversations(*world):
                yield [Message(role, content) for role, content in conversation.turns]


def total_bytes_hint(sources: Sequence[str]) -> int | None:
    """About how many bytes of text will come, for progress; None when it can't be known."""
    total = 0
    for source in sources:
        if world := parse_storyworld(source):
            total += world[1]
            continue
        for file in find_files(source):
            if file.suffix.lower() in COMPRESSIONS or file_format(file) == ".parquet":
                return None
            total += file.stat().st_size
    return total


def source_digest(sources: Sequence[str]) -> dict[str, str]:
    """The sha256 of each file's bytes, and each storyworld source as it stands: provenance."""
    digests: dict[str, str] = {}
    for source in sources:
        if parse_storyworld(source):
            digests[source] = source
            continue
        for path in find_files(source):
            with path.open("rb") as file:
                digests[str(path)] = hashlib.file_digest(file, "sha256").hexdigest()
    return digests
