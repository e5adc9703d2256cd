"""Tokenizers to hold against ours: byte-level BPE and unigram of the same size.

In: documents, or a saved tokenizer.json. Out: tokenizers used as ours is by packing, training and
evaluation. Only the lab knows them: model directories made with them load nowhere else.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal

import tokenizers
from tokenizers import Regex, models, pre_tokenizers, trainers

from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import (
    BYTE_SYMBOLS,
    MIN_VOCAB_SIZE,
    SPECIAL_TOKENS,
    Tokenizer,
    train_tokenizer,
)
from tinymemorylm.vocabulary import PRE_TOKEN_PATTERN, pieces

Kind = Literal["hybrid", "bpe", "unigram"]


class SubwordTokenizer(Tokenizer):
    """BPE or unigram over bytes: lossless, with our control tokens, pre-tokens and size."""

    def __init__(self, document: str) -> None:  # the text of a tokenizer.json
        vocab = json.loads(document)["model"]["vocab"]
        if isinstance(vocab, dict):  # BPE: ids by entry
            entries = [entry for entry, _ in sorted(vocab.items(), key=lambda pair: pair[1])]
        else:  # unigram: entries with their scores, in the order of ids
            entries = [entry for entry, _ in vocab]
        n_special = len(SPECIAL_TOKENS)
        if tuple(entries[:n_special]) != SPECIAL_TOKENS or not set(BYTE_SYMBOLS) <= set(entries):
            raise InputError("not one of the lab's tokenizers: control tokens or bytes are missing")
        spelled = [bytes(BYTE_SYMBOLS[symbol] for symbol in e) for e in entries[n_special:]]
        self._set_up(document, spelled)

    @classmethod
    def load(cls, path: str | Path) -> "SubwordTokenizer":
        return cls(Path(path).read_text(encoding="utf-8"))


def train_subwords(
    documents: Iterable[str], kind: Literal["bpe", "unigram"], vocab_size: int
) -> SubwordTokenizer:
    """Train with the `tokenizers` library: same pre-tokens and control tokens as ours.

    BPE is deterministic; the library's unigram is not, so train it once and keep it. Raises
    InputError if the text is too small to fill `vocab_size`.
    """
    if vocab_size < MIN_VOCAB_SIZE:
        raise InputError(f"vocabulary size {vocab_size} is too small: give {MIN_VOCAB_SIZE}")
    split = pre_tokenizers.Split(Regex(PRE_TOKEN_PATTERN), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    settings = {
        "vocab_size": vocab_size,
        "special_tokens": list(SPECIAL_TOKENS),
        "initial_alphabet": sorted(BYTE_SYMBOLS),
        "show_progress": False,
    }
    if kind == "bpe":
        model, trainer = models.BPE(), trainers.BpeTrainer(**settings)
    else:
        model, trainer = models.Unigram(), trainers.UnigramTrainer(**settings)
    backend = tokenizers.Tokenizer(model)
    backend.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])  # type: ignore
    cut = (piece for document in documents for piece in pieces(document))
    backend.train_from_iterator(cut, trainer)
    if backend.get_vocab_size() != vocab_size:
        raise InputError(
            f"the text is too small for {vocab_size} {kind} tokens: "
            f"it fills {backend.get_vocab_size()}; give more text or a smaller vocab_size"
        )
    return SubwordTokenizer(backend.to_str(pretty=True))


def train_kind(documents: Iterable[str], kind: Kind, vocab_size: int) -> Tokenizer:
    if kind == "hybrid":
        return train_tokenizer(documents, vocab_size)
    return train_subwords(documents, kind, vocab_size)


def load_kind(path: Path, kind: Kind) -> Tokenizer:
    return Tokenizer.load(path) if kind == "hybrid" else SubwordTokenizer.load(path)
