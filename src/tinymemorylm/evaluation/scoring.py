"""A model as a judge of token sequences: nats of the tokens asked about, many windows a batch.

In: windows, each tokens to read and how many at their end to score. Out: the nll of those, or how
sure the model was of what it expected, in the order of the windows and whatever their batching.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.objectives import CHUNK, token_nll
from tinymemorylm.progress import Progress
from tinymemorylm.tokenizer import Tokenizer

BATCH_TOKENS = 8192
T = TypeVar("T")


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
        for group in _batches(windows):
            nll = self._nll(*self._scored(group))
            yield from nll.split([window.n_scored for window in group])

    def totals(self, windows: Iterable[Window], title: str) -> list[float]:
        """Each window's summed nll in nats, batched by length. title: for progress."""
        return by_length(windows, lambda cut: (float(nll.sum()) for nll in self.nll(cut)), title)

    def nll_and_greedy(self, windows: Iterable[Window]) -> Iterator[tuple[float, bool]]:
        """Each window's summed nll, and whether every scored token is the likeliest one."""
        for group in _batches(windows):
            hidden, targets = self._scored(group)
            sizes = [window.n_scored for window in group]
            hits = (self._likeliest(hidden)[0] == targets).cpu().split(sizes)
            for nll, hit in zip(self._nll(hidden, targets).split(sizes), hits, strict=True):
                yield float(nll.sum()), bool(hit.all())

    def confidences(self, windows: Iterable[Window]) -> Iterator[tuple[Tensor, Tensor]]:
        """Of each scored token the likeliest one's probability, and whether it came: (n_scored,)
        each, windows in order."""
        for group in _batches(windows):
            hidden, targets = self._scored(group)
            sizes = [window.n_scored for window in group]
            likeliest, p = self._likeliest(hidden)
            yield from zip(p.split(sizes), (likeliest == targets).cpu().split(sizes), strict=True)

    @torch.no_grad()
    def _nll(self, hidden: Tensor, targets: Tensor) -> Tensor:
        matrix = self.model.embedding.weight
        return token_nll(hidden, matrix, targets, self.log_boost).cpu().double()

    @torch.no_grad()
    def _likeliest(self, hidden: Tensor) -> tuple[Tensor, Tensor]:
        """Ids of the likeliest tokens, and their probabilities: (n,) each."""
        boost = 0 if self.log_boost is None else self.log_boost
        matrix = self.model.embedding.weight.T
        ids, p = [], []
        for rows in hidden.split(CHUNK):
            logits = (rows @ matrix).float() - boost  # (chunk, vocab_size)
            best = logits.max(-1)
            ids.append(best.indices)
            p.append((best.values - logits.logsumexp(-1)).exp())
        return torch.cat(ids), torch.cat(p).cpu().double()

    @torch.no_grad()
    def _scored(self, group: list[Window]) -> tuple[Tensor, Tensor]:
        """What the head unembeds at the scored positions, (n, width), and targets (n,)."""
        device = self.model.embedding.weight.device
        longest = max(2, *(len(window.tokens) for window in group))
        tokens = torch.full((len(group), longest), self.tokenizer.pad_id)
        scored = torch.zeros(len(group), longest - 1, dtype=torch.bool)
        for row, window in enumerate(group):
            end = len(window.tokens)
            tokens[row, :end] = torch.tensor(window.tokens)
            scored[row, end - 1 - window.n_scored : end - 1] = True
        tokens, scored = tokens.to(device), scored.to(device)
        states = self.model(tokens[:, :-1])  # padding follows all that is scored: causal, unseen
        return self.model.head_input(states[scored]), tokens[:, 1:][scored]

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


def _batches(windows: Iterable[Window]) -> Iterator[list[Window]]:
    pending: list[Window] = []
    longest = 0
    for window in windows:
        longest = max(longest, len(window.tokens))
        if pending and longest * (len(pending) + 1) > BATCH_TOKENS:
            yield pending
            pending, longest = [], len(window.tokens)
        pending.append(window)
    if pending:
        yield pending


def by_length(
    windows: Iterable[Window], judge: Callable[[Iterable[Window]], Iterable[T]], title: str
) -> list[T]:
    """What `judge` says of each window, given them shortest first, so that little is padded.

    Equal windows are given once, so that they tie whatever batch they fall in.
    """
    keys = [(tuple(window.tokens), window.n_scored) for window in windows]
    distinct = sorted(dict.fromkeys(keys), key=lambda key: len(key[0]))
    found: list[T] = []
    with Progress(title, len(distinct)) as progress:
        for result in judge(Window(list(tokens), n_scored) for tokens, n_scored in distinct):
            found.append(result)
            progress.update(len(found), f"{len(found):,} of {len(distinct):,} sequences")
    of_window = dict(zip(distinct, found, strict=True))
    return [of_window[key] for key in keys]
