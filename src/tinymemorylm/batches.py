"""Batches cut from packed token streams.

In: the shards `packing` wrote. Out: batches that are a pure function of (seed, index): any
step can be reached without the steps before it, which is what makes resuming exact.
"""

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tinymemorylm.drills import Drills
from tinymemorylm.errors import InputError
from tinymemorylm.files import file_sha256, read_json
from tinymemorylm.packing import NOT_A_TARGET, SHARD_TOKENS, Ids
from tinymemorylm.progress import watched
from tinymemorylm.tokenizer import Tokenizer

PACK_AGAIN = "delete prepared.json beside the shards, and --resume packs the data again"
OPEN_ROWS = 16
"""Rows kept open while conversations are packed: more waste less, and cost more."""


class TokenStream:
    """The shards of one split, read as a single long array.

    Raises InputError for a shard that is missing or not, to the bit, what was packed.
    """

    def __init__(self, folder: Path, name: str) -> None:
        paths = [folder / f"{name}-{i:05d}.bin" for i in range(len(_whole_shards(folder, name)))]
        self._shards = [np.memmap(p, dtype="<u2", mode="r") for p in paths]
        self._starts = np.cumsum([0, *(len(shard) for shard in self._shards)])

    def __len__(self) -> int:
        return int(self._starts[-1])

    def read(self, start: int, stop: int) -> Ids:
        """Stored tokens start..stop-1, marks included."""
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        parts = []
        for shard, begin in zip(self._shards[first:], self._starts[first:-1], strict=True):
            if begin >= stop:
                break
            parts.append(shard[max(start - begin, 0) : stop - begin])
        return np.concatenate(parts).astype(np.int64) if parts else np.empty(0, np.int64)

    def starts(self, bos_id: int) -> Ids:
        """Where each document or conversation begins, and the end of the last one."""
        found = [
            np.flatnonzero(s == bos_id) + b
            for s, b in zip(self._shards, self._starts[:-1], strict=True)
        ]
        return np.concatenate([*found, [len(self)]]).astype(np.int64)

    def documents(self, bos_id: int) -> Iterator[Ids]:
        bounds = self.starts(bos_id)
        for start, stop in pairwise(bounds):
            yield self.read(int(start), int(stop))


def _whole_shards(folder: Path, name: str) -> list[str]:
    """The digests in a split's index, each held against its shard."""
    index = read_json(folder / f"{name}.json")
    digests = index.get("shards") if isinstance(index, dict) else None
    if not isinstance(digests, list):
        raise InputError(f"{folder / name}.json is no index of shards; {PACK_AGAIN}")
    size = 2 * SHARD_TOKENS
    for i, digest in enumerate(watched("checking", digests, lambda _: size, size * len(digests))):
        path = folder / f"{name}-{i:05d}.bin"
        if not path.is_file() or file_sha256(path) != digest:
            raise InputError(f"{path} is missing or damaged; {PACK_AGAIN}")
    return digests


COUNTED = 1 << 22
"""Tokens of a stream looked at by `follow_counts`: enough for any vocabulary of ours."""
MOST_COUNTED = 8192


def follow_counts(streams: Sequence[TokenStream], vocab_size: int) -> NDArray[np.float32]:
    """How often token j follows token i at the beginning of the streams: (i, j).

    Raises InputError for a vocabulary too large to count pairs of.
    """
    if vocab_size > MOST_COUNTED:
        raise InputError(
            f"pairs of {vocab_size} tokens are too many to count (at most {MOST_COUNTED}); "
            "set kindred_embedding false"
        )
    counts = np.zeros(vocab_size * vocab_size, np.int64)
    for stream in streams:
        ids = stream.read(0, min(len(stream), COUNTED)) & ~NOT_A_TARGET
        counts += np.bincount(ids[:-1] * vocab_size + ids[1:], minlength=len(counts))
    return counts.reshape(vocab_size, vocab_size).astype(np.float32)


@dataclass(frozen=True)
class Batch:
    """tokens, segments, is_target: (rows, seq + ahead); inputs are the first seq columns.

    Positions of different documents or conversations have different segments; padding is
    segment -1. response_index: 0 where no assistant speaks, else 1, 2, 3.. (None: plain text).
    """

    tokens: Ids
    segments: Ids
    is_target: NDArray[np.bool_]
    response_index: Ids | None = None

    def part(self, rows: slice) -> "Batch":
        """Some of its rows."""
        index = self.response_index
        return Batch(
            self.tokens[rows],
            self.segments[rows],
            self.is_target[rows],
            None if index is None else index[rows],
        )


def response_index(tokens: Ids, tokenizer: Tokenizer) -> Ids:
    """Count each assistant turn's tokens, <eos> included, from 1; 0 elsewhere. (rows, n)."""
    position = np.broadcast_to(np.arange(tokens.shape[1]), tokens.shape)

    def last_before(token_id: int) -> Ids:
        seen = np.maximum.accumulate(np.where(tokens == token_id, position, -1), axis=1)
        return np.concatenate((np.full_like(seen[:, :1], -1), seen[:, :-1]), axis=1)

    spoken, ended = last_before(tokenizer.assistant_id), last_before(tokenizer.eos_id)
    return np.where(spoken > ended, position - spoken, 0)


class TextBatches:
    """Windows of running text, shuffled anew each epoch; a share of them drills instead.

    Each epoch cuts the stream at another offset, so windows don't always start alike.
    """

    def __init__(
        self,
        stream: TokenStream,
        bos_id: int,
        seq: int,
        ahead: int,
        seed: int,
        drills: Drills | None = None,
    ) -> None:
        self.stream, self.bos_id, self.seq, self.width = stream, bos_id, seq, seq + ahead
        if len(stream) < self.width:
            raise InputError(
                f"the text is {len(stream)} tokens, fewer than one sequence of {self.width}; "
                "give more data or a shorter --pretrain.sequence-length"
            )
        self.seed, self.drills = seed, drills
        self.per_epoch = max(1, (len(stream) - ahead - seq + 1) // seq)
        self._epoch, self._offset, self._order = -1, 0, np.empty(0, np.int64)

    def _start(self, index: int) -> int:
        epoch, i = divmod(index, self.per_epoch)
        if epoch != self._epoch:
            rng = np.random.default_rng([self.seed, epoch, self.seq])
            slack = len(self.stream) - self.width - (self.per_epoch - 1) * self.seq
            self._offset = int(rng.integers(min(slack, self.seq - 1) + 1))
            self._order, self._epoch = rng.permutation(self.per_epoch), epoch
        return self._offset + int(self._order[i]) * self.seq

    def batch(self, first: int, rows: int) -> Batch:
        """Windows first..first+rows-1 of the endless shuffled order."""
        starts = [self._start(i) for i in range(first, first + rows)]
        text = text_batch([self.stream.read(s, s + self.width) for s in starts], self.bos_id)
        for row, index in enumerate(range(first, first + rows)):
            if self.drills is not None and self.drills.take(index):
                drill = self.drills.row(index, self.width)
                text.tokens[row], text.segments[row], text.is_target[row] = drill
        return text


def text_batch(windows: list[Ids], bos_id: int) -> Batch:
    stored = np.stack(windows)
    tokens = stored & ~NOT_A_TARGET
    return Batch(tokens, (tokens == bos_id).cumsum(axis=1), stored < NOT_A_TARGET)


class ChatBatches:
    """Whole conversations packed into rows, in another order each epoch.

    Conversations of a row are segments and never see each other; one longer than the row
    is cut at its end. Of the epochs passed only their ends are remembered.
    """

    def __init__(
        self, stream: TokenStream, tokenizer: Tokenizer, seq: int, ahead: int, seed: int
    ) -> None:
        self.stream, self.tokenizer, self.seq, self.ahead = stream, tokenizer, seq, ahead
        self.seed = seed
        bounds = stream.starts(tokenizer.bos_id)
        self.starts, self.lengths = bounds[:-1], np.minimum(np.diff(bounds), seq)
        if not len(self.starts):
            raise InputError("no conversations to train on; give --chat-data")
        self._ends: list[int] = []  # rows up to the end of each epoch packed so far
        self._epoch, self._plan = -1, list[list[int]]()

    def _pack(self, epoch: int) -> list[list[int]]:
        """Conversations by row: each goes to the first open row with room (first fit)."""
        order = np.random.default_rng([self.seed, epoch, self.seq]).permutation(len(self.starts))
        rows: list[list[int]] = []
        room: list[tuple[int, int]] = []  # (tokens left, row) of the open rows
        for conversation in order.tolist():
            length = int(self.lengths[conversation])
            fit = next((i for i, (left, _) in enumerate(room) if left >= length), None)
            if fit is None:
                room = [*room[len(room) >= OPEN_ROWS :], (self.seq, len(rows))]
                rows.append([])
                fit = len(room) - 1
            left, row = room[fit]
            rows[row].append(conversation)
            room[fit] = (left - length, row)
        return rows

    def _row(self, index: int) -> list[int]:
        while not self._ends or index >= self._ends[-1]:
            self._turn_to(len(self._ends))
            self._ends.append((self._ends or [0])[-1] + len(self._plan))
        epoch = bisect_right(self._ends, index)
        self._turn_to(epoch)
        return self._plan[index - self._ends[epoch]]  # from its end

    def _turn_to(self, epoch: int) -> None:
        if epoch != self._epoch:
            self._epoch, self._plan = epoch, self._pack(epoch)

    def conversation(self, number: int) -> Ids:
        """Stored tokens of one conversation, cut to the row's length."""
        start = int(self.starts[number])
        return self.stream.read(start, start + int(self.lengths[number]))

    def batch(self, first: int, rows: int) -> Batch:
        """Rows first..first+rows-1 of the endless packed order."""
        shape = (rows, self.seq + self.ahead)
        stored = np.full(shape, self.tokenizer.pad_id, np.int64)
        segments = np.full(shape, -1, np.int64)
        for r in range(rows):
            used = 0
            for segment, number in enumerate(self._row(first + r)):
                ids = self.conversation(number)
                stored[r, used : used + len(ids)] = ids
                segments[r, used : used + len(ids)] = segment
                used += len(ids)
        return chat_batch(stored, segments, self.tokenizer)


def chat_batch(stored: Ids, segments: Ids, tokenizer: Tokenizer) -> Batch:
    tokens, real = stored & ~NOT_A_TARGET, segments >= 0
    index = np.where(real, response_index(tokens, tokenizer), 0)
    return Batch(tokens, segments, (stored < NOT_A_TARGET) & real, index)


class RelevanceBatches:
    """Responses under their own prompt and under other conversations' prompts.

    Made of first exchanges only. Groups depend on (seed, index) alone, never on how a step is
    cut into micro-batches; a prompt whose own answer equals the response is no negative.
    """

    TRIES = 50

    def __init__(self, chats: ChatBatches, negatives: int) -> None:
        self.chats, self.negatives = chats, negatives
        short = chats.lengths <= chats.seq // 2  # so that any prompt and any response fit
        self.eligible = np.flatnonzero(short)
        if not len(self.eligible):
            raise InputError(
                f"the relevance objective needs conversations of at most {chats.seq // 2} tokens; "
                "give a longer --sft.sequence-length, or --sft.relevance-weight 0"
            )

    def _exchange(self, number: int) -> tuple[Ids, Ids]:
        """Prompt, up to <|assistant|>, and response, up to its <eos>."""
        tokenizer = self.chats.tokenizer
        ids = self.chats.conversation(number)
        start = int(np.argmax((ids & ~NOT_A_TARGET) == tokenizer.assistant_id)) + 1
        stop = start + int(np.argmax((ids[start:] & ~NOT_A_TARGET) == tokenizer.eos_id)) + 1
        return ids[:start], ids[start:stop]

    def _group(self, index: int) -> list[Ids] | None:
        """Rows of one group, true prompt first; None if no other answer turned up."""
        rng = np.random.default_rng([self.chats.seed, 3, index])
        prompt, response = self._exchange(int(rng.choice(self.eligible)))
        rows = [np.concatenate((prompt, response))]
        for _ in range(self.TRIES):
            other, answer = self._exchange(int(rng.choice(self.eligible)))
            if not np.array_equal(answer & ~NOT_A_TARGET, response & ~NOT_A_TARGET):
                rows.append(np.concatenate((other, response)))
                if len(rows) == self.negatives + 1:
                    return rows
        return None

    def batch(self, first: int, groups: int) -> Batch | None:
        """Groups first..first+groups-1 as one batch of rows; None if there are none."""
        found = [self._group(index) for index in range(first, first + groups)]
        rows = [row for group in found if group is not None for row in group]
        if not rows:
            return None
        width = max(len(row) for row in rows)
        stored = np.full((len(rows), width), self.chats.tokenizer.pad_id, np.int64)
        segments = np.full(stored.shape, -1, np.int64)
        for r, row in enumerate(rows):
            stored[r, : len(row)], segments[r, : len(row)] = row, 0
        return chat_batch(stored, segments, self.chats.tokenizer)
