"""The hybrid word/character tokenizer: build it, save it, load it, and say what its tokens are.

In: documents and a vocabulary size, or a tokenizer.json. Out: ids, text, and facts by id.
"""

import hashlib
import heapq
import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import tokenizers
from tokenizers import pre_tokenizers

from tinymemorylm.errors import InputError
from tinymemorylm.files import write_text

SPECIAL_TOKENS = ("<pad>", "<bos>", "<eos>", "<|system|>", "<|user|>", "<|assistant|>")
ROLES = ("system", "user", "assistant")
DEFAULT_VOCAB_SIZE = 2133
MIN_VOCAB_SIZE = len(SPECIAL_TOKENS) + 256
SPECIAL, CHARACTER, WORD = 0, 1, 2

# The same text `Tokenizer.encode_chat` encodes. It begins with <bos>, so the tokenizer that reads
# it must add none (add_special_tokens=False).
CHAT_TEMPLATE = (
    "{{ '<bos>' }}{% for message in messages %}"
    "{% if message['role'] == 'assistant' %}"
    "{{ '<|assistant|>' + message['content'] + '<eos>' }}"
    "{% elif message['role'] == 'user' or message['role'] == 'system' %}"
    "{{ '<|' + message['role'] + '|>' + message['content'] }}"
    "{% else %}{{ raise_exception('a role is one of system, user, assistant') }}{% endif %}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)

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
_CHARACTER_PREFIX = re.compile(rb"[\xc2-\xf4][\x80-\xbf]{1,3}")


@dataclass(frozen=True)
class Message:
    """One turn of a chat. Raises InputError for an unknown role."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"unknown role {self.role!r}: use system, user or assistant")


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


def train_tokenizer(documents: Iterable[str], vocab_size: int = DEFAULT_VOCAB_SIZE) -> "Tokenizer":
    """Build the tokenizer of exactly `vocab_size` ids that spends fewest tokens on the documents.

    Deterministic: the order of documents does not matter and ties go to the lower code points.
    Raises InputError when `vocab_size` is below 262 or the text too small to fill it.
    """
    free = vocab_size - MIN_VOCAB_SIZE
    if free < 0:
        fewest = f"{MIN_VOCAB_SIZE}, the control tokens and the bytes"
        raise InputError(f"vocabulary size {vocab_size} is too small: give at least {fewest}")
    search = VocabularySearch(count_pre_tokens(documents), free)
    if search.capacity < free:
        raise InputError(
            f"the text is too small for {vocab_size} tokens: it fills {search.capacity} of {free} "
            f"entries; give more text or --vocab-size {MIN_VOCAB_SIZE + search.capacity}"
        )
    search.run()
    return Tokenizer(_document(*search.result()))


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte, as `ByteLevel` writes them."""
    kept = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    stand_ins = itertools.count(256)
    return [chr(byte if byte in kept else next(stand_ins)) for byte in range(256)]


_SYMBOLS = _byte_symbols()
_BYTES = {symbol: byte for byte, symbol in enumerate(_SYMBOLS)}


def _symbols(spelled: bytes) -> str:
    return "".join(_SYMBOLS[byte] for byte in spelled)


def _frame() -> dict[str, Any]:
    """Everything in tokenizer.json but the vocabulary and the merges."""
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    named = [{"id": id, "content": name} for id, name in enumerate(SPECIAL_TOKENS)]
    pattern = {"Regex": PRE_TOKEN_PATTERN}
    split = {"type": "Split", "pattern": pattern, "behavior": "Isolated", "invert": False}
    options = {"add_prefix_space": False, "trim_offsets": False, "use_regex": False}
    byte_level = {"type": "ByteLevel", **options}
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    names = {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}}
    add_bos = {"single": [bos, first], "pair": [bos, first, second], "special_tokens": names}
    unset = ("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")
    model = {"type": "BPE", **dict.fromkeys(unset), "fuse_unk": False, "byte_fallback": False}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{**token, **plain, "special": True} for token in named],
        "normalizer": None,
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, byte_level]},
        "post_processor": {"type": "TemplateProcessing", **add_bos},
        "decoder": byte_level,
        "model": {**model, "ignore_merges": True},
    }


def _document(words: list[str], prefixes: list[bytes]) -> str:
    entries = [*SPECIAL_TOKENS, *_SYMBOLS, *map(_symbols, prefixes)]
    entries += [_symbols(word.encode()) for word in words]
    frame = _frame()
    frame["model"]["vocab"] = {entry: id for id, entry in enumerate(entries)}
    frame["model"]["merges"] = [[_symbols(p[:-1]), _symbols(p[-1:])] for p in prefixes]
    return json.dumps(frame, ensure_ascii=False, indent=1) + "\n"


def _parse(document: str) -> tuple[dict[str, int], list[bytes]]:
    """Vocabulary and merged prefixes. Raises ValueError, saying what differs, for other files."""
    content = json.loads(document)
    if not isinstance(content, dict) or not isinstance(content.get("model"), dict):
        raise ValueError("it has no model")
    vocab, merges = content["model"].pop("vocab", {}), content["model"].pop("merges", [])
    if other := [key for key, value in _frame().items() if content.get(key) != value]:
        raise ValueError(f"its {other[0]} is another kind of tokenizer's")
    if not isinstance(vocab, dict) or list(vocab.values()) != list(range(len(vocab))):
        raise ValueError("its ids are not 0, 1, 2, ... in order")
    if tuple(vocab)[:MIN_VOCAB_SIZE] != (*SPECIAL_TOKENS, *_SYMBOLS):
        raise ValueError("its first ids are not the control tokens and the 256 bytes")
    if not all(entry and _BYTES.keys() >= set(entry) for entry in list(vocab)[MIN_VOCAB_SIZE:]):
        raise ValueError("its vocabulary holds an entry that is not bytes")
    merged: list[bytes] = []
    for left, right in merges:
        prefix = bytes(_BYTES[symbol] for symbol in left + right)
        known = left + right in vocab and (len(left) == 1 or prefix[:-1] in merged)
        if len(right) != 1 or not known or not _CHARACTER_PREFIX.fullmatch(prefix):
            raise ValueError(f"its merge {left!r} {right!r} is not of one character's bytes")
        merged.append(prefix)
    return vocab, merged


class Tokenizer:
    """Text to ids and back. Lossless; control tokens written in a text stay text."""

    def __init__(self, document: str) -> None:  # the text of a tokenizer.json
        vocab, merged = _parse(document)
        self._document = document
        self._backend = tokenizers.Tokenizer.from_str(document)
        self._backend.encode_special_tokens = True
        self.vocab_size = len(vocab)
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
        self.system_id, self.user_id, self.assistant_id = 3, 4, 5
        self.sha256 = hashlib.sha256(document.encode()).hexdigest()
        n_special = len(SPECIAL_TOKENS)
        spelled = [bytes(_BYTES[symbol] for symbol in entry) for entry in list(vocab)[n_special:]]
        self._bytes = [b""] * n_special + spelled
        self._shown = [name.encode() for name in SPECIAL_TOKENS] + spelled
        atoms = [*(bytes([byte]) for byte in range(256)), *merged]
        self._atom_ids = {atom: vocab[_symbols(atom)] for atom in atoms}
        self.byte_lengths = np.array([len(b) for b in self._bytes], np.uint16)
        self.classes = np.array([_class(b) for b in self._bytes], np.uint8)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises InputError if it is missing, broken or not one of ours."""
        try:
            return cls(Path(path).read_bytes().decode())
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = getattr(error, "strerror", None) or error
            raise InputError(
                f"{path}: not a tokenizer of ours ({why}); make one with `tmlm tokenizer train`"
            ) from None

    def save(self, path: str | Path) -> None:
        """Write the file, and beside it the chat template, where Transformers looks for it."""
        write_text(Path(path), self._document)
        write_text(Path(path).with_name("chat_template.jinja"), CHAT_TEMPLATE)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without <bos>. Raises InputError for half of a surrogate pair."""
        return self.encode_batch([text])[0]

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores: long texts are cut where that changes nothing."""
        cut = [list(pieces(text)) for text in texts]
        flat = [piece for parts in cut for piece in parts]
        try:
            encoded = iter(self._backend.encode_batch_fast(flat, add_special_tokens=False))
        except TypeError:  # what tokenizers raises for a string that has no UTF-8
            raise InputError("the text holds half of a surrogate pair: give it as UTF-8") from None
        return [[id for _ in parts for id in next(encoded).ids] for parts in cut]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of the ids; broken UTF-8 becomes U+FFFD, control tokens their names."""
        table = self._bytes if skip_special else self._shown
        return b"".join(table[id] for id in ids).decode(errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes a token spells; none for a control token."""
        return self._bytes[id]

    def spell(self, id: int) -> list[int]:
        """The ids the token's text would have without its word entry; a control token's own."""
        spelled, ids = self._bytes[id], []
        while spelled:
            end = next(e for e in (4, 3, 2, 1) if spelled[:e] in self._atom_ids)
            ids.append(self._atom_ids[spelled[:end]])
            spelled = spelled[end:]
        return ids or [id]

    def encode_chat(
        self, messages: Sequence[Message], add_generation_prompt: bool = False
    ) -> list[int]:
        """<bos>, then each turn's role token and content; assistant turns end with <eos>."""
        ids, _ = self.encode_chat_with_targets(messages)
        return [*ids, self.assistant_id] if add_generation_prompt else ids

    def encode_chat_with_targets(self, messages: Sequence[Message]) -> tuple[list[int], list[int]]:
        """`encode_chat`, and for each id its place (1, 2, ...) in an assistant turn, or 0.

        The content of assistant turns and their <eos> are what fine-tuning learns to produce.
        """
        ids, response_index = [self.bos_id], [0]
        for message in messages:
            learned = message.role == "assistant"
            content = self.encode(message.content) + [self.eos_id] * learned
            ids += [SPECIAL_TOKENS.index(f"<|{message.role}|>"), *content]
            response_index += [0, *(n * learned for n in range(1, len(content) + 1))]
        return ids, response_index


def _class(spelled: bytes) -> int:
    if not spelled:
        return SPECIAL
    try:
        return WORD if len(spelled.decode()) > 1 else CHARACTER
    except UnicodeDecodeError:
        return CHARACTER
