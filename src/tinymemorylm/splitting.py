"""How a text splits: its tokens one by one, and how much of it whole words cover.

In: a tokenizer and a text, or counted pre-tokens. Out: `Token`s, `Coverage`. Knows no model.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tinymemorylm.tokenizer import WORD, Tokenizer

TokenClass = Literal["special", "character", "word"]
CLASSES: tuple[TokenClass, ...] = ("special", "character", "word")
"""By the tokenizer's class numbers. A word spells several characters, a character at most one."""


@dataclass(frozen=True)
class Token:
    """One token: `text` as it reads, part of a character as <0xE2>; `spelled`, its bytes."""

    id: int
    text: str
    spelled: bytes
    token_class: TokenClass


def token(tokenizer: Tokenizer, id: int) -> Token:
    """What the id stands for."""
    spelled = tokenizer.token_bytes(id)
    try:
        text = spelled.decode() or tokenizer.decode([id])
    except UnicodeDecodeError:
        text = "".join(f"<0x{byte:02X}>" for byte in spelled)
    return Token(id, text, spelled, CLASSES[tokenizer.classes[id]])


def tokens(tokenizer: Tokenizer, text: str) -> list[Token]:
    """The text's tokens, without <bos>."""
    return [token(tokenizer, id) for id in tokenizer.encode(text)]


@dataclass
class Coverage:
    """Tokens and bytes by class, and the pre-tokens that have no entry of their own.

    spelled_out: how often each pre-token of several tokens occurred.
    """

    word_tokens: int
    character_tokens: int
    word_bytes: int
    character_bytes: int
    spelled_out: Counter[str]

    @property
    def n_tokens(self) -> int:
        return self.word_tokens + self.character_tokens

    @property
    def n_bytes(self) -> int:
        return self.word_bytes + self.character_bytes

    @property
    def bytes_per_token(self) -> float:
        return self.n_bytes / max(1, self.n_tokens)

    @property
    def share_of_bytes_in_words(self) -> float:
        return self.word_bytes / max(1, self.n_bytes)

    @property
    def share_of_tokens_in_words(self) -> float:
        return self.word_tokens / max(1, self.n_tokens)


def coverage(tokenizer: Tokenizer, pre_tokens: Mapping[str, int]) -> Coverage:
    """Coverage of text with these pre-tokens, given with their counts (`count_pre_tokens`)."""
    found = Coverage(0, 0, 0, 0, Counter())
    encoded = tokenizer.encode_batch(list(pre_tokens))
    for (pre_token, count), ids in zip(pre_tokens.items(), encoded, strict=True):
        for id in ids:
            n_bytes = count * len(tokenizer.token_bytes(id))
            if tokenizer.classes[id] == WORD:
                found.word_tokens += count
                found.word_bytes += n_bytes
            else:
                found.character_tokens += count
                found.character_bytes += n_bytes
        if len(ids) > 1:
            found.spelled_out[pre_token] += count
    return found
