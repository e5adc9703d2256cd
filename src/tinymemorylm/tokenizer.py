"""The hybrid word/character tokenizer: build it, save it, load it, and say what its tokens are.

In: documents and a vocabulary size, or a tokenizer.json. Out: ids, text, and facts by id.
"""

import hashlib
import itertools
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tokenizers

from tinymemorylm.errors import InputError, shown
from tinymemorylm.files import write_text
from tinymemorylm.vocabulary import (
    CHARACTER_PREFIX,
    PRE_TOKEN_PATTERN,
    VocabularySearch,
    count_pre_tokens,
    pieces,
)

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


@dataclass(frozen=True)
class Message:
    """One turn of a chat. Raises InputError for an unknown role."""

    role: str
    content: str

    def __post_init__(self) -> None:
        if self.role not in ROLES:
            raise InputError(f"unknown role {self.role!r}: use system, user or assistant")


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
BYTE_SYMBOLS = {symbol: byte for byte, symbol in enumerate(_SYMBOLS)}


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
    if not all(
        entry and BYTE_SYMBOLS.keys() >= set(entry) for entry in list(vocab)[MIN_VOCAB_SIZE:]
    ):
        raise ValueError("its vocabulary holds an entry that is not bytes")
    merged: list[bytes] = []
    for left, right in merges:
        prefix = bytes(BYTE_SYMBOLS[symbol] for symbol in left + right)
        known = left + right in vocab and (len(left) == 1 or prefix[:-1] in merged)
        if len(right) != 1 or not known or not CHARACTER_PREFIX.fullmatch(prefix):
            raise ValueError(f"its merge {left!r} {right!r} is not of one character's bytes")
        merged.append(prefix)
    return vocab, merged


def _backend(document: str) -> tokenizers.Tokenizer:
    """Raises ValueError for what Python reads as JSON and tokenizers doesn't, such as NaN."""
    try:
        return tokenizers.Tokenizer.from_str(document)
    except Exception as error:  # it raises this very class
        raise ValueError(str(error)) from None


class Tokenizer:
    """Text to ids and back. Lossless; control tokens written in a text stay text."""

    def __init__(self, document: str) -> None:  # the text of a tokenizer.json
        vocab, merged = _parse(document)
        entries = list(vocab)[len(SPECIAL_TOKENS) :]
        spelled = [bytes(BYTE_SYMBOLS[symbol] for symbol in entry) for entry in entries]
        self._set_up(document, spelled, merged)

    def _set_up(self, document: str, spelled: list[bytes], merged: Sequence[bytes] = ()) -> None:
        """spelled: the bytes of each id after the control tokens; merged: character prefixes."""
        self._document = document
        self._backend = _backend(document)
        self._backend.encode_special_tokens = True
        self.pad_id, self.bos_id, self.eos_id = 0, 1, 2
        self.system_id, self.user_id, self.assistant_id = 3, 4, 5
        self.sha256 = hashlib.sha256(document.encode()).hexdigest()
        n_special = len(SPECIAL_TOKENS)
        self._bytes = [b""] * n_special + spelled
        self._shown = [name.encode() for name in SPECIAL_TOKENS] + spelled
        self.vocab_size = len(self._bytes)
        ids = {spelling: id for id, spelling in enumerate(self._bytes) if spelling}
        self._atom_ids = {a: ids[a] for a in (*(bytes([byte]) for byte in range(256)), *merged)}
        self.byte_lengths = np.array([len(b) for b in self._bytes], np.uint16)
        self.classes = np.array([_class(b) for b in self._bytes], np.uint8)

    @classmethod
    def load(cls, path: str | Path) -> "Tokenizer":
        """Read a tokenizer.json. Raises InputError if it is missing, broken or not one of ours."""
        try:
            return cls(Path(path).read_bytes().decode())
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            why = shown(getattr(error, "strerror", None) or str(error))
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
