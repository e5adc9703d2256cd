"""Documents and conversations to token streams on disk, split into train and validation.

In: texts, or conversations, and a tokenizer. Out: uint16 shards a memory map can read; each
document or conversation begins with <bos>, which is how its boundary is found again.
"""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, write_json
from tinymemorylm.tokenizer import WORD, Message, Tokenizer

SHARD_TOKENS = 1 << 24
NOT_A_TARGET = 0x8000
"""Top bit of a stored token: read it, but don't learn to predict it."""
FEW_DOCUMENTS = 20
"""Below this many documents, validation is the end of each rather than some of them."""
BATCH_CHARACTERS = 1 << 20

Ids = NDArray[np.int64]


class StreamWriter:
    """Token sequences one after another, as shards `name-NNNNN.bin` and `name.json`."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.tokens = self._size = 0
        self.digests: list[str] = []  # SHA-256 of each shard
        self._pending: list[Ids] = []

    def add(self, sequence: Ids) -> None:
        self._pending.append(sequence)
        self._size += len(sequence)
        self.tokens += len(sequence)
        if self._size >= SHARD_TOKENS:
            self._flush()

    def _flush(self) -> None:
        content = np.concatenate(self._pending).astype("<u2").tobytes()
        with atomic_file(self.folder / f"{self.name}-{len(self.digests):05d}.bin") as file:
            file.write(content)
        self.digests.append(hashlib.sha256(content).hexdigest())
        self._pending, self._size = [], 0

    def close(self) -> None:
        if self._pending:
            self._flush()
        index = {"tokens": self.tokens, "shards": self.digests}
        write_json(self.folder / f"{self.name}.json", index)


def spell_words(
    ids: list[int], tokenizer: Tokenizer, share: float, rng: np.random.Generator
) -> Ids:
    """Spell a share of a document's words in characters, so that spelling stays alive.

    Words are chosen by type, `share` of those in the document, and spelled wherever they occur
    in it: so names have to be copied letter by letter. Where a word is spelled for the first
    time its first character is marked NOT_A_TARGET: the model learns to read and to finish
    spelled words, and never to begin one for which the tokenizer has a whole word.
    """
    array = np.asarray(ids, dtype=np.int64)
    words = np.unique(array[tokenizer.classes[array] == WORD])
    chosen = words[rng.random(len(words)) < share]
    parts, done = [], 0
    seen: set[int] = set()
    for position in np.flatnonzero(np.isin(array, chosen)):
        word = ids[position]
        spelled = np.asarray(tokenizer.spell(word), dtype=np.int64)
        if word not in seen:
            spelled[0] |= NOT_A_TARGET
            seen.add(word)
        parts += [array[done:position], spelled]
        done = position + 1
    return np.concatenate([*parts, array[done:]])


def validation_documents(n_documents: int, share: float, seed: int) -> set[int]:
    """Which documents are held out: a seeded draw of `share` of them, at least one."""
    held_out = max(1, round(n_documents * share))
    return set(np.random.default_rng(seed).permutation(n_documents)[:held_out].tolist())


def split_span(text: str, share: float) -> tuple[str, str]:
    """A text's beginning, and its last `share`, from the start of a line if one is near."""
    cut = int(len(text) * (1 - share))
    line = text.find("\n", cut, cut + 2000) + 1
    return text[: line or cut], text[line or cut :]


def _in_batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if size > BATCH_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def pack_documents(
    documents: Iterable[str],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    n_documents: int,
    validation_share: float,
    spell_share: float,
    seed: int,
) -> dict[str, int]:
    """Write streams `train` and `validation`. Returns documents, bytes and tokens of each.

    Only training text has words spelled out. Raises InputError if a split comes out empty.
    """
    _check_vocabulary(tokenizer)
    writers = {name: StreamWriter(folder, name) for name in ("train", "validation")}
    n_bytes = dict.fromkeys(writers, 0)
    held_out = validation_documents(n_documents, validation_share, seed)
    rng = np.random.default_rng([seed, 1])
    count = 0

    def parts() -> Iterator[tuple[str, str]]:  # (split, text)
        nonlocal count
        for i, text in enumerate(documents):
            count += 1
            if n_documents < FEW_DOCUMENTS:
                yield from zip(writers, split_span(text, validation_share), strict=True)
            else:
                yield "validation" if i in held_out else "train", text

    splits: list[str] = []

    def texts() -> Iterator[str]:
        for split, text in parts():
            splits.append(split)
            n_bytes[split] += len(text.encode())
            yield text

    for batch in _in_batches(texts()):
        for split, ids in zip(splits, tokenizer.encode_batch(batch), strict=True):
            if split == "train":
                body = spell_words(ids, tokenizer, spell_share, rng)
            else:
                body = np.asarray(ids, dtype=np.int64)
            ends = np.array([tokenizer.bos_id, tokenizer.eos_id])
            writers[split].add(np.concatenate((ends[:1], body, ends[1:])))
        splits.clear()
    return _close(writers, n_bytes | {"documents": count})


def pack_conversations(
    conversations: Iterable[Sequence[Message]],
    tokenizer: Tokenizer,
    folder: Path,
    *,
    n_conversations: int,
    validation_share: float,
    spell_share: float,
    seed: int,
) -> dict[str, int]:
    """The same for chat: each conversation by the chat template, split by conversation."""
    _check_vocabulary(tokenizer)
    writers = {name: StreamWriter(folder, name) for name in ("train", "validation")}
    n_bytes = dict.fromkeys(writers, 0)
    held_out = validation_documents(n_conversations, validation_share, seed)
    rng = np.random.default_rng([seed, 2])
    count = 0
    for i, messages in enumerate(conversations):
        split = "validation" if i in held_out else "train"
        share = 0.0 if i in held_out else spell_share
        writers[split].add(spell_words(tokenizer.encode_chat(messages), tokenizer, share, rng))
        n_bytes[split] += sum(len(message.content.encode()) for message in messages)
        count += 1
    return _close(writers, n_bytes | {"conversations": count})


def _check_vocabulary(tokenizer: Tokenizer) -> None:
    if tokenizer.vocab_size > NOT_A_TARGET:
        raise InputError(
            f"a vocabulary of {tokenizer.vocab_size} does not fit; use at most {NOT_A_TARGET}"
        )


def _close(writers: dict[str, StreamWriter], counts: dict[str, int]) -> dict[str, int]:
    for name, writer in writers.items():
        if not writer.tokens:
            raise InputError(f"the data leaves nothing for {name}; give more of it")
        writer.close()
        counts[f"{name}_tokens"] = writer.tokens
        counts[f"{name}_bytes"] = counts.pop(name)
    return counts
