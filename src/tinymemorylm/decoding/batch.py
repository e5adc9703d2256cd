"""Many continuations at once by the torch model: what `reference` draws, in a part of the time.

In: prompts of any lengths, and how to sample each. Out: the tokens of each.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from tinymemorylm.decoding.sampling import Sampling, choose
from tinymemorylm.errors import InputError
from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.progress import Progress
from tinymemorylm.tokenizer import SPECIAL, Tokenizer

ROWS = 64
"""Prompts run side by side; of 230 tokens each, the cache takes 120 MB in preset haiku."""


@dataclass
class _Row:
    """ids: the prompt and what was drawn. drawn: (id, nll in nats) of the latter."""

    ids: list[int]
    sampling: Sampling
    rng: np.random.Generator
    drawn: list[tuple[int, float]] = field(default_factory=list)
    done: bool = False


def draw_batch(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[Sequence[int]],
    samplings: Sequence[Sampling],
    *,
    max_new_tokens: int,
    log_boost: Tensor | None = None,
) -> list[list[tuple[int, float]]]:
    """(id, nll in nats) after each prompt: what `stream_tokens` gives with the same sampling.

    Each ends with the first control token, after `max_new_tokens`, or where the context is full.
    log_boost: see `objectives.token_nll`. Raises InputError for an empty or too long prompt.
    """
    context = model.config.context_length
    for prompt in prompts:
        if not 0 < len(prompt) < context:
            raise InputError(f"a prompt is {len(prompt)} tokens; give 1 to {context - 1}")
    rows = [
        _Row(list(prompt), sampling, np.random.default_rng(sampling.seed))
        for prompt, sampling in zip(prompts, samplings, strict=True)
    ]
    with Progress("sampling", len(rows) * max_new_tokens) as progress:
        for start in range(0, len(rows), ROWS):
            for _ in _steps(
                model, tokenizer, rows[start : start + ROWS], max_new_tokens, log_boost
            ):
                drawn = sum(max_new_tokens if row.done else len(row.drawn) for row in rows)
                progress.update(drawn, f"{sum(row.done for row in rows)} of {len(rows)}")
    return [row.drawn for row in rows]


@torch.no_grad()
def _steps(
    model: Transformer,
    tokenizer: Tokenizer,
    rows: list[_Row],
    max_new_tokens: int,
    log_boost: Tensor | None,
) -> Iterator[None]:
    """All rows a position on at each step, until the last is done.

    A row still in its prompt reads the prompt's next token where the others read what they drew:
    so all rows stand at the same position, and one cache without padding serves them.
    """
    config, device = model.config, model.embedding.weight.device
    lengths = [len(row.ids) for row in rows]
    most = min(config.context_length, max(lengths) + max_new_tokens)
    cache = Cache(replace(config, context_length=most), len(rows), model.final_norm.weight)
    while rows:
        start = cache.length
        end = max(start + 1, min(start + PREFILL_BLOCK, min(lengths)))
        tokens = torch.tensor([row.ids[start:end] for row in rows], device=device)
        states = model(tokens, cache=cache)
        drawing = [i for i, row in enumerate(rows) if len(row.ids) == end]
        logits = model.logits(states[drawing, -1])  # (drawing, vocab_size)
        logits = logits.float() if log_boost is None else logits.float() - log_boost
        nll = -logits.log_softmax(-1)
        for i, scores, nats in zip(drawing, logits.cpu().numpy(), nll.cpu(), strict=True):
            row = rows[i]
            token = choose(scores, row.sampling, row.ids, row.rng)
            row.drawn.append((token, float(nats[token])))
            row.ids.append(token)
            row.done = (
                tokenizer.classes[token] == SPECIAL
                or len(row.drawn) == max_new_tokens
                or len(row.ids) == config.context_length
            )
        kept = [i for i, row in enumerate(rows) if not row.done]
        if len(kept) < len(rows):
            rows = [rows[i] for i in kept]
            cache.keep(kept)
        yield
