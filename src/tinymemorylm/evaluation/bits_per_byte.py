"""Bits per byte of a text: total nats / ln 2 / UTF-8 bytes, every byte counted once.

In: a model and documents. Out: nats of each token, and totals. A token sees <bos> or up to WINDOW
tokens before it; <eos> is not scored. Invariant to batching and to the order of documents.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from torch import Tensor

from tinymemorylm.evaluation.scoring import Scorer, Window

WINDOW = 1024
"""New tokens scored per window, and the most context given to a later window."""


@dataclass(frozen=True)
class TextScore:
    """Totals over documents. nats include every scored token; bytes are of the text."""

    nats: float
    n_bytes: int
    n_tokens: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.n_bytes)


def windows(ids: Sequence[int], bos_id: int, size: int = WINDOW) -> Iterator[Window]:
    """A document's windows: first <bos> plus `size` tokens, then `size` after `size` of context."""
    for start in range(0, len(ids), size):
        new = list(ids[start : start + size])
        before = [bos_id] if start == 0 else list(ids[start - size : start])
        yield Window(before + new, len(new))


def documents_windows(scorer: Scorer, documents: Iterable[Sequence[int]]) -> Iterator[Window]:
    """The windows that score every token of the documents' ids, in order.

    Models of a context below 2 x WINDOW see half of it.
    """
    size = min(WINDOW, scorer.context_length // 2)
    return (w for ids in documents for w in windows(ids, scorer.tokenizer.bos_id, size))


def documents_nll(scorer: Scorer, documents: Iterable[Sequence[int]]) -> Iterator[Tensor]:
    """nll in nats of every token of the documents' ids, in order, a window (n_scored,) a time."""
    return scorer.nll(documents_windows(scorer, documents))


def score_documents(scorer: Scorer, documents: Iterable[str]) -> TextScore:
    """Score whole documents."""
    n_bytes, n_tokens = 0, 0

    def encoded() -> Iterator[list[int]]:
        nonlocal n_bytes, n_tokens
        for text in documents:
            ids = scorer.tokenizer.encode(text)
            n_bytes += len(text.encode())
            n_tokens += len(ids)
            yield ids

    nats = sum((float(nll.sum()) for nll in documents_nll(scorer, encoded())), 0.0)
    return TextScore(nats, n_bytes, n_tokens)
