"""Bits per byte of a text: total nats / ln 2 / UTF-8 bytes, every byte counted once.

In: a model and documents. Out: nats of each token, and totals. A token sees <bos> or up to WINDOW
tokens before it; <eos> is not scored. Invariant to batching and to the order of documents.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinymemorylm.model.transformer import Transformer
from tinymemorylm.objectives import token_nll
from tinymemorylm.tokenizer import Tokenizer

WINDOW = 1024
"""New tokens scored per window, and the most context given to a later window."""
BATCH_TOKENS = 8192


@dataclass(frozen=True)
class TextScore:
    """Totals over documents. nats include every scored token; bytes are of the text."""

    nats: float
    n_bytes: int
    n_tokens: int

    @property
    def bits_per_byte(self) -> float:
        return self.nats / math.log(2) / max(1, self.n_bytes)


@dataclass(frozen=True)
class Window:
    """tokens to read, and how many at the end of them to score."""

    tokens: list[int]
    n_scored: int


def windows(ids: Sequence[int], bos_id: int, size: int = WINDOW) -> Iterator[Window]:
    """A document's windows: first <bos> plus `size` tokens, then `size` after `size` of context."""
    for start in range(0, len(ids), size):
        new = list(ids[start : start + size])
        before = [bos_id] if start == 0 else list(ids[start - size : start])
        yield Window(before + new, len(new))


@torch.no_grad()
def windows_nll(
    model: Transformer, group: list[Window], pad_id: int, log_boost: Tensor | None
) -> list[Tensor]:
    """nll in nats of each window's scored tokens, (n_scored,), run as one batch."""
    device = model.embedding.weight.device
    longest = max(len(window.tokens) for window in group)
    tokens = torch.full((len(group), longest), pad_id)
    scored = torch.zeros(len(group), longest - 1, dtype=torch.bool)
    for row, window in enumerate(group):
        end = len(window.tokens)
        tokens[row, :end] = torch.tensor(window.tokens)
        scored[row, end - 1 - window.n_scored : end - 1] = True
    tokens, scored = tokens.to(device), scored.to(device)
    states = model(tokens[:, :-1])  # padding comes after all that is scored: causal, so unseen
    hidden = model.head_input(states[scored])
    nll = token_nll(hidden, model.embedding.weight, tokens[:, 1:][scored], log_boost)
    return list(nll.cpu().double().split([window.n_scored for window in group]))


def documents_nll(
    model: Transformer,
    tokenizer: Tokenizer,
    documents: Iterable[Sequence[int]],
    log_boost: Tensor | None = None,
) -> Iterator[Tensor]:
    """nll in nats of every token of the documents' ids, in order, a window (n_scored,) at a time.

    The model must be in evaluation mode, on any device.
    """
    size = min(WINDOW, model.config.context_length // 2)
    pending: list[Window] = []
    for ids in documents:
        for window in windows(ids, tokenizer.bos_id, size):
            longest = max([len(window.tokens), *(len(w.tokens) for w in pending)])
            if pending and longest * (len(pending) + 1) > BATCH_TOKENS:
                yield from windows_nll(model, pending, tokenizer.pad_id, log_boost)
                pending = []
            pending.append(window)
    if pending:
        yield from windows_nll(model, pending, tokenizer.pad_id, log_boost)


def score_documents(
    model: Transformer,
    tokenizer: Tokenizer,
    documents: Iterable[str],
    log_boost: Tensor | None = None,
) -> TextScore:
    """Score whole documents. The model must be in evaluation mode, on any device."""
    n_bytes, n_tokens = 0, 0

    def encoded() -> Iterator[list[int]]:
        nonlocal n_bytes, n_tokens
        for text in documents:
            ids = tokenizer.encode(text)
            n_bytes += len(text.encode())
            n_tokens += len(ids)
            yield ids

    nlls = documents_nll(model, tokenizer, encoded(), log_boost)
    nats = sum((float(nll.sum()) for nll in nlls), 0.0)
    return TextScore(nats, n_bytes, n_tokens)
