"""A model as a judge of token sequences: nats of the tokens asked about, many windows a batch.

In: windows, each tokens to read and how many at their end to score. Out: the nll of those, in the
order of the windows and whatever their batching.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.objectives import token_nll
from tinymemorylm.tokenizer import Tokenizer

BATCH_TOKENS = 8192


@dataclass(frozen=True)
class Window:
    """tokens to read, and how many at the end of them to score: fewer than there are."""

    tokens: list[int]
    n_scored: int


@dataclass(frozen=True)
class Scorer:
    """A model in evaluation mode on any device, its tokenizer, and its adjustment if it has one.

    log_boost: see `objectives.token_nll`.
    """

    model: Transformer
    tokenizer: Tokenizer
    log_boost: Tensor | None = None

    @property
    def context_length(self) -> int:
        return self.model.config.context_length

    def nll(self, windows: Iterable[Window]) -> Iterator[Tensor]:
        """nll in nats of each window's scored tokens, (n_scored,), windows in order."""
        pending: list[Window] = []
        longest = 0
        for window in windows:
            longest = max(longest, len(window.tokens))
            if pending and longest * (len(pending) + 1) > BATCH_TOKENS:
                yield from self._batch_nll(pending)
                pending, longest = [], len(window.tokens)
            pending.append(window)
        if pending:
            yield from self._batch_nll(pending)

    @torch.no_grad()
    def _batch_nll(self, group: list[Window]) -> list[Tensor]:
        device = self.model.embedding.weight.device
        longest = max(len(window.tokens) for window in group)
        tokens = torch.full((len(group), longest), self.tokenizer.pad_id)
        scored = torch.zeros(len(group), longest - 1, dtype=torch.bool)
        for row, window in enumerate(group):
            end = len(window.tokens)
            tokens[row, :end] = torch.tensor(window.tokens)
            scored[row, end - 1 - window.n_scored : end - 1] = True
        tokens, scored = tokens.to(device), scored.to(device)
        states = self.model(tokens[:, :-1])  # padding follows all that is scored: causal, unseen
        hidden = self.model.head_input(states[scored])
        targets = tokens[:, 1:][scored]
        nll = token_nll(hidden, self.model.embedding.weight, targets, self.log_boost)
        return list(nll.cpu().double().split([window.n_scored for window in group]))

    @torch.no_grad()
    def logits_after(
        self, prompt: Sequence[int], continuations: Sequence[Sequence[int]]
    ) -> list[Tensor]:
        """Logits for the tokens of each continuation, (n_tokens, vocab_size); adjusted.

        The prompt, of one token or more, is run once for all of them.
        """
        model, device = self.model, self.model.embedding.weight.device
        cache = Cache(model.config, 1, model.final_norm.weight)
        for start in range(0, len(prompt) - 1, PREFILL_BLOCK):
            block = prompt[start : min(start + PREFILL_BLOCK, len(prompt) - 1)]
            model(torch.tensor([block], device=device), cache=cache)
        longest = max(map(len, continuations))
        tokens = torch.full((len(continuations), longest), self.tokenizer.pad_id)
        for row, ids in enumerate(continuations):
            tokens[row, : len(ids)] = torch.tensor([prompt[-1], *ids[:-1]])
        states = model(tokens.to(device), cache=cache.repeated(len(continuations)))
        logits = model.logits(states).float()
        if self.log_boost is not None:
            logits = logits - self.log_boost
        return [row[: len(ids)] for row, ids in zip(logits.cpu(), continuations, strict=True)]
