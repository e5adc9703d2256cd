"""Text and conversations from whatever the user names as data.

In: paths, globs, "storyworld:SEED:BYTES", or "hf:owner/name" and other hub sources. Out:
documents, conversations, sizes and digests.
"""

from collections.abc import Iterator, Sequence

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.chat import read_chat
from tinymemorylm.corpus.hub import check_hub, hub_digests, parse_hub, read_hub, read_hub_chat
from tinymemorylm.corpus.local import (
    COMPRESSIONS,
    DOCUMENT_SEPARATOR,
    file_format,
    find_files,
    read_local,
)
from tinymemorylm.corpus.size import parse_size
from tinymemorylm.errors import InputError
from tinymemorylm.files import file_sha256
from tinymemorylm.tokenizer import Message

__all__ = [
    "DOCUMENT_SEPARATOR",
    "BadInput",
    "read_conversations",
    "read_documents",
    "source_digest",
    "total_bytes_hint",
]


def parse_storyworld(source: str) -> tuple[int, int] | None:
    """Seed and bytes of "storyworld:SEED:BYTES"; None for a source of another kind.

    Raises InputError when it is malformed.
    """
    if not source.startswith("storyworld:"):
        return None
    seed, _, size = source.removeprefix("storyworld:").partition(":")
    n_bytes = parse_size(size)
    if n_bytes is None or not (seed.isascii() and seed.isdecimal() and len(seed) <= 18):
        raise InputError(f"{source}: write storyworld:SEED:BYTES, such as storyworld:1:4MB")
    return int(seed), n_bytes


def _check(sources: Sequence[str]) -> None:
    for source in sources:
        if hub := parse_hub(source):
            check_hub(hub)
        elif parse_storyworld(source) is None:
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
        if hub := parse_hub(source):
            yield from read_hub(hub, bad=bad)
        elif world := parse_storyworld(source):
            from tinymemorylm.corpus.storyworld import stories

            yield from (story.text for story in stories(*world))
        else:
            yield from read_local(source, document_separator=document_separator, bad=bad)


def read_conversations(sources: Sequence[str], *, bad: BadInput) -> Iterator[list[Message]]:
    """The conversations of all sources, in the order given. Raises InputError as above."""
    _check(sources)
    for source in sources:
        if hub := parse_hub(source):
            yield from read_hub_chat(hub, bad=bad)
        elif world := parse_storyworld(source):
            from tinymemorylm.corpus.storyworld import conversations

            for conversation in conversations(*world):
                yield [Message(role, content) for role, content in conversation.turns]
        else:
            yield from read_chat(source, bad=bad)


def total_bytes_hint(sources: Sequence[str]) -> int | None:
    """About how many bytes of text will come, for progress; None when it can't be known."""
    total = 0
    for source in sources:
        if hub := parse_hub(source):
            if hub.n_bytes is None:
                return None
            total += hub.n_bytes
            continue
        if world := parse_storyworld(source):
            total += world[1]
            continue
        for file in find_files(source):
            if file.suffix.lower() in COMPRESSIONS or file_format(file) == ".parquet":
                return None
            total += file.stat().st_size
    return total


def source_digest(sources: Sequence[str]) -> dict[str, str]:
    """Provenance: the sha256 of each file's bytes, the commit of each hub data set, and each
    storyworld source as it stands."""
    digests: dict[str, str] = {}
    for source in sources:
        if hub := parse_hub(source):
            digests |= hub_digests(hub)
        elif parse_storyworld(source):
            digests[source] = source
        else:
            digests |= {str(path): file_sha256(path) for path in find_files(source)}
    return digests
