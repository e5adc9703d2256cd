"""Generation by the torch model with its cache, on any device: plain, and the one to trust.

In: a model, prompt ids and how to sample. Out: a stream of tokens with their log-probability,
and from it a finished `Generation`.
"""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from tinymemorylm.decoding.sampling import Sampling, choose
from tinymemorylm.decoding.text import Generation, finished, stream_text
from tinymemorylm.errors import InputError
from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


def stream_tokens(
    model: Transformer,
    prompt: Sequence[int],
    sampling: Sampling,
    log_boost: Tensor | None = None,
) -> Iterator[tuple[int, float]]:
    """Endless (id, nll in nats) after `prompt`, until the context is full.

    log_boost: see `objectives.token_nll`. Raises InputError for an empty or too long prompt, at
    once.
    """
    context = model.config.context_length
    if not prompt:
        raise InputError("the prompt holds no tokens")
    if len(prompt) >= context:
        raise InputError(f"the prompt is {len(prompt)} tokens; the context holds {context}")
    return _tokens(model, prompt, sampling, log_boost)


@torch.no_grad()
def _tokens(
    model: Transformer, prompt: Sequence[int], sampling: Sampling, log_boost: Tensor | None
) -> Iterator[tuple[int, float]]:
    context, device = model.config.context_length, model.embedding.weight.device
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

    Raises InputError as `stream_tokens` and `stream_text` do.
    """
    tokens = stream_tokens(model, prompt, sampling, log_boost)
    return finished(
        stream_text(
            tokens,
            tokenizer,
            prompt_tokens=len(prompt),
            max_new_tokens=max_new_tokens,
            stop=stop,
        )
    )
