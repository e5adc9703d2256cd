"""Samples drawn while training, so that progress can be read and not only plotted.

In: the model and a recipe's prompts. Out: the lines of `samples.jsonl`.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor

from tinymemorylm.decoding.reference import generate
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.evaluation.repetition import repeated_share
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Message, Tokenizer

MAX_NEW_TOKENS = 120


def draw_samples(
    model: Transformer,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    *,
    chat: bool,
    log_boost: Tensor | None,
    temperature: float,
    seed: int,
    where: dict[str, Any],
) -> Iterator[dict[str, Any]]:
    """One line a prompt; `where` says phase, step and tokens seen. Seeds count up from `seed`."""
    for i, prompt in enumerate(prompts):
        if chat:
            ids = tokenizer.encode_chat([Message("user", prompt)], add_generation_prompt=True)
        else:
            ids = [tokenizer.bos_id, *tokenizer.encode(prompt)]
        sampling = Sampling(temperature, seed=seed + i)
        done = generate(
            model, tokenizer, ids, sampling, max_new_tokens=MAX_NEW_TOKENS, log_boost=log_boost
        )
        nats = sum(done.nll)
        nll = nats / max(1, len(done.nll))
        yield {
            **where,
            "prompt": prompt,
            "completion": done.text,
            "nll": round(nll, 4),
            "ppl": round(math.exp(min(nll, 50)), 3),
            "bits_per_byte": round(nats / math.log(2) / max(1, len(done.text.encode())), 4),
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed,
            "repetition": round(repeated_share(done.token_ids), 4),
        }
