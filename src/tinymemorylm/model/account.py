"""The exact account of a model: parameters by part, FLOPs per token, bytes of its cache.

In: a `ModelConfig`. Out: plain numbers for `tmlm info`, `config.json` and the model card.
"""

from typing import Any

import torch

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.cache import Cache
from tinymemorylm.model.transformer import Transformer

PARTS = {
    "embedding": "embedding",
    "embedding_projection": "embedding",
    "embedding_scale": "embedding",
    "blocks": "attention_and_norms",
    "ffns": "feed_forward",
    "final_norm": "final_norm",
    "horizons": "multi_token_prediction",
}


def parameter_account(config: ModelConfig) -> dict[str, Any]:
    """`total`, `inference` (without MTP) and `by_part`; tied weights count once."""
    with torch.device("meta"):
        model = Transformer(config)
    by_part = dict.fromkeys(PARTS.values(), 0)
    for name, parameter in model.named_parameters():
        by_part[PARTS[name.split(".")[0]]] += parameter.numel()
    total = sum(by_part.values())
    return {
        "total": total,
        "inference": total - by_part["multi_token_prediction"],
        "by_part": by_part,
    }


def flops_per_token(config: ModelConfig) -> int:
    """Forward FLOPs of one decoded token at full context: two per weight used, and attention.

    A tied weight counts every time it runs; attention counts scores and mixing.
    """
    d, kv = config.d_model, config.n_kv_heads * config.head_dim
    layer = 2 * d * d + 2 * d * kv + 3 * d * config.d_ff
    keys = sum(
        config.context_length
        if config.is_global(i)
        else min(config.sliding_window, config.context_length)
        for i in range(config.n_logical_layers)
    )
    width = config.embedding_rank or d
    unembed = config.vocab_size * width + (2 * width * d if config.embedding_rank else 0)
    return 2 * (config.n_logical_layers * layer + 2 * d * keys + unembed)


def kv_cache_bytes(config: ModelConfig) -> int:
    """Bytes of a full float32 cache for one sequence."""
    return Cache(config, 1, torch.empty(0, device="meta")).n_bytes
