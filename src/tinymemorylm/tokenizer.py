"""The hybrid word/character tokenizer: build it, save it, load it, and say what its tokens are.

In: documents and a vocabulary size, or a tokenizer.json. Out: ids, text, and facts by id.
"""

import hashlib
import heapq
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


@dataclass(frozen=True)
class Message:
    """One turn of a chat. Raises InputError for an unknown role."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"unknown role {self.role!r}: use system, user or assistant")


# ---------------------------------------------------------------- choosing the vocabulary


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
    split = _split()
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for pre_token, _ in split.pre_tokenize_str(chunk):
            counts[pre_token] += count
    return counts


def _prefixes(character: str) -> list[bytes]:
    """The UTF-8 prefixes of two bytes and more: what must be merged to make the character."""
    spelled = character.encode()
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
        inside: dict[bytes, dict[int, int]] = {}
        for word in (w for w in words if not w.isascii()):
            for character, times in Counter(word).items():
                for prefix in _prefixes(character):
                    self.occurrences[prefix] += times * counts[word]
                    rows = inside.setdefault(prefix, {})
                    if (row := row_of.get(word)) is not None:
                        rows[row] = rows.get(row, 0) + times * counts[word]
        for prefix, rows in inside.items():
            keys, values = (np.fromiter(v, np.int64, len(rows)) for v in (rows, rows.values()))
            self._inside[prefix] = keys, values
        self.capacity = len({spelled[word] for word in words} | set(inside))
        # Parents first: no prefix occurs more often than the one it extends.
        self.order = sorted(inside, key=lambda p: (-self.occurrences[p], len(p), p))
        self._children: dict[bytes, list[bytes]] = {}
        for prefix in self.order:
            self._children.setdefault(prefix[:-1], []).append(prefix)
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
        """Tokens saved, against all bytes, by the prefixes and the best words in what room they
        leave; and what the last of those words saves."""
        room, by_prefixes = self.slots - len(chosen), sum(self.occurrences[p] for p in chosen)
        if room <= 0:
            return (by_prefixes if room == 0 else -1), 0
        if room >= len(gains):
            return by_prefixes + int(gains.sum()), 0
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
        """What to toggle to add a prefix, with those it extends, or to drop one that none extends."""
        if prefix not in self.chosen:
            chain = {prefix[:end] for end in range(2, len(prefix) + 1)}
            return chain - self.chosen
        extended = any(p in self.chosen for p in self._children.get(prefix, ()))
        return set() if extended else {prefix}

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
    if vocab_size < MIN_VOCAB_SIZE:
        raise InputError(
            f"vocabulary size {vocab_size} is too small: the control tokens and the 256 bytes "
            f"alone take {MIN_VOCAB_SIZE}"
        )
    search = VocabularySearch(count_pre_tokens(documents), vocab_size - MIN_VOCAB_SIZE)
    if search.capacity < search.slots:
        possible = MIN_VOCAB_SIZE + search.capacity
        raise InputError(
            f"the text is too small for {vocab_size} tokens: only {possible} could be made; "
            f"give more text or --vocab-size {possible}"
        )
    search.run()
    words, prefixes = search.result()
    return Tokenizer(_document(words, prefixes))


# ---------------------------------------------------------------- the file


def _byte_symbols() -> list[str]:
    """GPT-2's printable stand-in for each byte, as `ByteLevel` writes them."""
    kept = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    symbols = {byte: chr(byte) for byte in kept}
    others = (byte for byte in range(256) if byte not in symbols)
    symbols.update({byte: chr(256 + n) for n, byte in enumerate(others)})
    return [symbols[byte] for byte in range(256)]


_SYMBOLS = _byte_symbols()
_BYTES = {symbol: byte for byte, symbol in enumerate(_SYMBOLS)}


def _symbols(spelled: bytes) -> str:
    return "".join(_SYMBOLS[byte] for byte in spelled)


def _split() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Split(tokenizers.Regex(PRE_TOKEN_PATTERN), "isolated")


def _added_token(id: int, content: str) -> dict[str, Any]:
    plain = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    return {"id": id, "content": content, **plain, "special": True}


def _frame() -> dict[str, Any]:
    """Everything in tokenizer.json but the vocabulary and the merges."""
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False}
    byte_level["use_regex"] = False
    bos = {"SpecialToken": {"id": "<bos>", "type_id": 0}}
    first, second = ({"Sequence": {"id": name, "type_id": 0}} for name in "AB")
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [_added_token(id, name) for id, name in enumerate(SPECIAL_TOKENS)],
        "normalizer": None,
        "pre_tokenizer": {
            "type": "Sequence",
            "pretokenizers": [
                {
                    "type": "Split",
                    "pattern": {"Regex": PRE_TOKEN_PATTERN},
                    "behavior": "Isolated",
                    "invert": False,
                },
                byte_level,
            ],
        },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos, first],
            "pair": [bos, first, second],
            "special_tokens": {"<bos>": {"id": "<bos>", "ids": [1], "tokens": ["<bos>"]}},
        },
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "ignore_merges": True,
        },
    }


def _document(words: list[str], prefixes: list[bytes]) -> str:
    entries = [*SPECIAL_TOKENS, *_SYMBOLS, *map(_symbols, prefixes)]
    entries += [_symbols(word.encode()) for word in words]
    frame = _frame()
    frame["model"]["vocab"] = {entry: id for id, entry in enumerate(entries)}
    frame["model"]["merges"] = [[_symbols(p[:-1]), _symbols(p[-1:])] for p in prefixes]
    return json.dumps(frame, ensure_ascii=False, indent=1) + "\n"


def _check(document: str) -> dict[str, Any]:
    """The parsed file. Raises ValueError, saying what differs, if it is not one of ours."""
    frame = json.loads(document)
    if not isinstance(frame, dict) or not isinstance(frame.get("model"), dict):
        raise ValueError("it has no model")
    vocab, merges = frame["model"].pop("vocab", None), frame["model"].pop("merges", None)
    for key, value in _frame().items():
        if frame.get(key) != value:
            raise ValueError(f"its {key} is another kind of tokenizer's")
    if not isinstance(vocab, dict) or list(vocab.values()) != list(range(len(vocab))):
        raise ValueError("its ids are not 0, 1, 2, ... in order")
    if tuple(vocab)[:MIN_VOCAB_SIZE] != (*SPECIAL_TOKENS, *_SYMBOLS):
        raise ValueError("its first ids are not the control tokens and the 256 bytes")
    if not all(symbol in _BYTES for entry in list(vocab)[MIN_VOCAB_SIZE:] for symbol in entry):
        raise ValueError("its vocabulary holds an entry that is not bytes")
    frame["model"].update(vocab=vocab, merges=merges)
    return frame


class Tokenizer:
    """Text to ids and back. Lossless; control tokens written in a text stay text."""

    def __init__(self, document: str) -> None:
        """Take the text of a tokenizer.json; `Tokenizer.load` is the way to read a file."""
        model = _check(document)["model"]
        self._document = document
        self._backend = tokenizers.Tokenizer.from_str(document)
        self._backend.encode_special_tokens = True
        names = list(model["vocab"])
        self.vocab_size = len(names)
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
        self.system_id, self.user_id, self.assistant_id = 3, 4, 5
        self.sha256 = hashlib.sha256(document.encode()).hexdigest()
        n_special = len(SPECIAL_TOKENS)
        self._bytes = [b""] * n_special
        self._bytes += [bytes(_BYTES[symbol] for symbol in name) for name in names[n_special:]]
        self._special_bytes = [name.encode() for name in SPECIAL_TOKENS]
        merged = [bytes(_BYTES[s] for s in left + right) for left, right in model["merges"]]
        self._character_ids = {bytes([byte]): n_special + byte for byte in range(256)}
        self._character_ids |= {m: model["vocab"][_symbols(m)] for m in merged}
        self.byte_lengths = np.array([len(b) for b in self._bytes], np.uint16)
        self.classes = np.array([_class(b) for b in self._bytes], np.uint8)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises InputError if it is missing, broken or not one of ours."""
        try:
            return cls(Path(path).read_bytes().decode())
        except OSError as error:
            raise InputError(f"{path}: cannot read the tokenizer: {error.strerror}") from None
        except (ValueError, KeyError, TypeError) as error:
            raise InputError(
                f"{path} is not a tokenizer of this project ({error}); "
                "make one with `tmlm tokenizer train`"
            ) from None

    def save(self, path: str | Path) -> None:
        write_text(Path(path), self._document)

    def encode(self, text: str) -> list[int]:
        """The ids of a text, without <bos>."""
        return self._backend.encode(text, add_special_tokens=False).ids

    def encode_batch(self, texts: Sequence[str]) -> list[list[int]]:
        """`encode` of each text, on all cores."""
        batch = self._backend.encode_batch(list(texts), add_special_tokens=False)
        return [encoding.ids for encoding in batch]

    def decode(self, ids: Iterable[int], skip_special: bool = False) -> str:
        """The text of the ids; broken UTF-8 becomes U+FFFD, control tokens their names."""
        n_special = len(SPECIAL_TOKENS)
        spelled = (
            self._special_bytes[id] if id < n_special and not skip_special else self._bytes[id]
            for id in ids
        )
        return b"".join(spelled).decode(errors="replace")

    def token_bytes(self, id: int) -> bytes:
        """The bytes a token spells; none for a control token."""
        return self._bytes[id]

    def spell(self, id: int) -> list[int]:
        """The bytes and characters the token's text would be without its word entry."""
        spelled, ids = self._bytes[id], []
        if not spelled:
            return [id]
        while spelled:
            ends = (e for e in range(min(4, len(spelled)), 0, -1))
            end = next(e for e in ends if spelled[:e] in self._character_ids)
            ids.append(self._character_ids[spelled[:end]])
            spelled = spelled[end:]
        return ids

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
            content = self.encode(message.content)
            ids.append(SPECIAL_TOKENS.index(f"<|{message.role}|>"))
            response_index.append(0)
            if message.role == "assistant":
                content.append(self.eos_id)
                response_index += range(1, len(content) + 1)
            else:
                response_index += [0] * len(content)
            ids += content
        return ids, response_index


def _class(spelled: bytes) -> int:
    if not spelled:
        return SPECIAL
    return WORD if len(spelled.decode(errors="replace")) > 1 and _is_text(spelled) else CHARACTER


def _is_text(spelled: bytes) -> bool:
    try:
        spelled.decode()
    except UnicodeDecodeError:
        return False
    return True
