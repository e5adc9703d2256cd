"""Generation by the torch model with its cache, on any device: plain, and the one to trust.

In: a model, prompt ids and how to sample. Out: a stream of tokens with their log-probability,
and from it a finished `Generation`.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from tinymemorylm.decoding.sampling import Sampling, choose
from tinymemorylm.errors import InputError
from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Generation:
    """text and token_ids without the prompt and without what ended it.

    finish_reason: 'stop' (<eos> or a stop string), or 'length'. nll: nats of each token under
    the model itself, whatever the sampling.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float
    nll: list[float] = field(repr=False)


@torch.no_grad()
def stream_tokens(
    model: Transformer,
    prompt: Sequence[int],
    sampling: Sampling,
    log_boost: Tensor | None = None,
) -> Iterator[tuple[int, float]]:
    """Endless (id, nll in nats) after `prompt`, until the context is full.

    log_boost: see `objectives.token_nll`. Raises InputError for an empty or too long prompt.
    """
    context = model.config.context_length
    if not prompt:
        raise InputError("the prompt holds no tokens")
    if len(prompt) >= context:
        raise InputError(f"the prompt is {len(prompt)} tokens; the context holds {context}")
    device = model.embedding.weight.device
    rng = np.random.default_rng(sampling.seed)
    cache = Cache(model.config, 1, model.final_norm.weight)
    ids, pending = list(prompt), list(prompt)
    while True:
        states = torch.empty(0)
        for start in range(0, len(pending), PREFILL_BLOCK):
            block = torch.tensor([pending[start : start + PREFILL_BLOCK]], device=device)
            states = model(block, cache=cache)
        logits = model.logits(states[:, -1:])[0, 0].float()
        if log_boost is not None:
            logits = logits - log_boost
        token = choose(logits.cpu().numpy(), sampling, ids, rng)
        yield token, float(-logits.log_softmax(-1)[token])
        if len(ids) + 1 >= context:
            return
        ids.append(token)
        pending = [token]


def generate(
    model: Transformer,
    tokenizer: Tokenizer,
    prompt: Sequence[int],
    sampling: Sampling,
    *,
    max_new_tokens: int = 200,
    stop: Sequence[str] = (),
    log_boost: Tensor | None = None,
) -> Generation:
    """Continue `prompt` until <eos>, a stop string, `max_new_tokens` or a full context.

    Any control token ends the text as <eos> does: none of them belongs into it. Raises
    InputError for a bad prompt, an empty stop string or a non-positive `max_new_tokens`.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if any(not s for s in stop):
        raise InputError("a stop string is empty")
    ids: list[int] = []
    nll: list[float] = []
    text, reason = "", "length"
    began = time.perf_counter()
    for token, nats in stream_tokens(model, prompt, sampling, log_boost):
        if tokenizer.classes[token] == 0:
            reason = "stop"
            break
        ids.append(token)
        nll.append(nats)
        if stop:
            text = tokenizer.decode(ids)
            found = [at for s in stop if (at := text.find(s)) >= 0]
            if found:
                return _finish(text[: min(found)], ids, "stop", prompt, began, nll)
        if len(ids) == max_new_tokens:
            break
    return _finish(tokenizer.decode(ids), ids, reason, prompt, began, nll)


def _finish(
    text: str, ids: list[int], reason: str, prompt: Sequence[int], began: float, nll: list[float]
) -> Generation:
    seconds = time.perf_counter() - began
    speed = len(ids) / seconds if seconds > 0 else 0.0
    return Generation(text, ids, reason, len(prompt), len(ids), round(speed, 1), nll)
