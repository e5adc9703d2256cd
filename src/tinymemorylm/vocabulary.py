"""Which entries a vocabulary gets: the search for fewest tokens on a corpus.

In: documents, and how many entries are free. Out: whole words, and prefixes of characters.
"""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import pre_tokenizers

# Llama 3's pre-tokenizer, which llama.cpp knows as `llama-bpe`.
PRE_TOKEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Places where a pre-token always ends whatever stands before and after, so that text cut there has
# the pre-tokens of the whole: no alternative above runs from a non-space into a space, nor from a
# newline into a non-space, and the one look-ahead only asks what follows a run of whitespace.
_SAFE_CUT = re.compile(r"(?<=\S)(?= )|(?<=\n)(?=\S)")
_PIECE_CHARACTERS = 1 << 14
CHARACTER_PREFIX = re.compile(rb"[\xc2-\xf4][\x80-\xbf]{1,3}")


def pieces(text: str, size: int = _PIECE_CHARACTERS) -> Iterator[str]:
    """Cut a text into pieces of about `size` characters whose pre-tokens are the text's own."""
    start = 0
    while start < len(text):
        cut = _SAFE_CUT.search(text, start + size)
        end = cut.start() if cut else len(text)
        yield text[start:end]
        start = end


def count_pre_tokens(documents: Iterable[str]) -> Counter[str]:
    """Count the pre-tokens of all documents, holding one piece of one document at a time."""
    chunks: Counter[str] = Counter()
    for document in documents:
        for piece in pieces(document):
            chunks.update(_SAFE_CUT.split(piece))
    split = pre_tokenizers.Split(tokenizers.Regex(PRE_TOKEN_PATTERN), "isolated")
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for pre_token, _ in split.pre_tokenize_str(chunk):
            counts[pre_token] += count
    return counts


def _prefixes(spelled: bytes) -> list[bytes]:
    """The UTF-8 prefixes of two bytes and more: what must be merged to make the character."""
    return [spelled[:end] for end in range(2, len(spelled) + 1)]


class VocabularySearch:
    """Which character prefixes and which whole pre-tokens to give the free entries to.

    Spelled out, a character costs its bytes less its prefixes in the vocabulary; a word entry costs
    one. So a prefix saves one token for every occurrence outside word entries, a word saves its
    count times (its spelled tokens - 1), and with given prefixes the best words are simply those
    that save most. The search is over the prefixes, by the exact change of the total.
    """

    def __init__(self, counts: Mapping[str, int], slots: int) -> None:
        self.slots = slots
        spelled = {word: word.encode() for word in sorted(counts)}
        words = [word for word, b in spelled.items() if len(b) > 1]
        gains = np.array([counts[w] * (len(spelled[w]) - 1) for w in words], np.int64)
        # What a word saves at the least, all its characters having entries: one that cannot reach
        # the last place of the best by that measure never has a place.
        least = np.array([counts[w] * (len(w) - 1) for w in words], np.int64)
        floor = np.partition(least, -slots)[-slots] if 0 < slots <= len(words) else 0
        kept = np.flatnonzero(gains >= floor)
        row_of = {words[row]: n for n, row in enumerate(kept)}
        self.words, self.gains = list(row_of), gains[kept]
        self.occurrences: Counter[bytes] = Counter()
        self._inside: dict[bytes, tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]] = {}
        inside: dict[bytes, Counter[int]] = {}
        for word in (w for w in words if not w.isascii()):
            for character, times in Counter(word).items():
                for prefix in _prefixes(character.encode()):
                    self.occurrences[prefix] += times * counts[word]
                    rows = inside.setdefault(prefix, Counter())
                    if word in row_of:
                        rows[row_of[word]] += times * counts[word]
        for prefix, rows in inside.items():
            keys, values = (np.fromiter(v, np.int64, len(rows)) for v in (rows, rows.values()))
            self._inside[prefix] = keys, values
        self.capacity = len({spelled[word] for word in words} | set(inside))
        # Parents first: no prefix occurs more often than the one it extends.
        self.order = sorted(inside, key=lambda p: (-self.occurrences[p], len(p), p))
        self.chosen: set[bytes] = set()
        self.saved, self._last_place = self._saving(self.gains, self.chosen)

    def run(self) -> None:
        """Climb from no prefixes and from as many as there is room for; keep the better."""
        self._climb()
        saved, chosen = self.saved, self.chosen
        self._toggle(set(self.order[: self.slots]) ^ chosen)
        self._climb()
        if self.saved <= saved:
            self._toggle(self.chosen ^ chosen)

    def result(self) -> tuple[list[str], list[bytes]]:
        """The words, best first, and the prefixes, parents first; together exactly `slots`."""
        unused = (prefix for prefix in self.order if prefix not in self.chosen)
        while int((self.gains > 0).sum()) < self.slots - len(self.chosen):
            # More room than words left to take: characters fill it, most frequent first.
            self._toggle({next(unused)})
        ranked = np.argsort(-self.gains, kind="stable")[: self.slots - len(self.chosen)]
        return [self.words[row] for row in ranked], [p for p in self.order if p in self.chosen]

    def _saving(self, gains: npt.NDArray[np.int64], chosen: set[bytes]) -> tuple[int, int]:
        """Tokens saved by the prefixes and the best words in the room left; the last word's."""
        room, by_prefixes = self.slots - len(chosen), sum(self.occurrences[p] for p in chosen)
        if room < 0:
            return -1, 0
        if room == 0 or room >= len(gains):
            return by_prefixes + int(gains.sum()) * (room > 0), 0
        best = np.partition(gains, len(gains) - room)[-room:]
        return by_prefixes + int(best.sum()), int(best[0])

    def _gains_after(self, toggled: set[bytes]) -> npt.NDArray[np.int64]:
        gains = self.gains.copy()
        for prefix in toggled:
            rows, saved = self._inside[prefix]
            gains[rows] += saved if prefix in self.chosen else -saved
        return gains

    def _toggle(self, toggled: set[bytes]) -> None:
        self.gains = self._gains_after(toggled)
        self.chosen = self.chosen ^ toggled
        self.saved, self._last_place = self._saving(self.gains, self.chosen)

    def _move(self, prefix: bytes) -> set[bytes]:
        """The prefixes to toggle to add one with those it extends, or to drop an unextended one."""
        if prefix not in self.chosen:
            return set(_prefixes(prefix)) - self.chosen
        return set() if any(p[:-1] == prefix for p in self.chosen) else {prefix}

    def _change(self, prefix: bytes) -> int:
        """How many tokens fewer the corpus takes after the move."""
        toggled = self._move(prefix)
        if prefix not in self.chosen:
            # Each entry taken costs at least the last word's place.
            most = sum(self.occurrences[p] - self._last_place for p in toggled)
            if most <= 0:
                return most
        return self._saving(self._gains_after(toggled), self.chosen ^ toggled)[0] - self.saved

    def _climb(self) -> None:
        """Make the best move until none is left. Moves are weighed anew only when they come up:
        a move seldom gains by another, and the next round weighs all of them again."""
        while True:
            changes = ((-self._change(prefix), rank) for rank, prefix in enumerate(self.order))
            heap = sorted(move for move in changes if move[0] < 0)
            if not heap:
                return
            while heap:
                rank = heapq.heappop(heap)[1]
                change = self._change(self.order[rank])
                if heap and change < -heap[0][0]:
                    if change > 0:
                        heapq.heappush(heap, (-change, rank))
                elif change > 0:
                    self._toggle(self._move(self.order[rank]))
