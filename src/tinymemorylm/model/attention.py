"""Grouped-query attention with partial rotary positions and a sliding window.

In: normalised states (batch, seq, d_model). Out: what attention adds to them. A local
layer's work grows with seq x window, never with seq x seq.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.cache import LayerCache

QUERY_BLOCK = 128
"""Queries a local layer answers at once on a CPU; small blocks look at few keys for nothing."""
LONG_QUERY_BLOCK = 512
"""The same elsewhere, where each call costs more than what it computes."""


def rotary_tables(config: ModelConfig) -> tuple[Tensor, Tensor]:
    """Cosines and sines, (context_length, rotary_dims / 2) each. RoPE, Su et al. 2021."""
    half = config.rotary_dims // 2
    frequencies = config.rope_theta ** (-torch.arange(half, dtype=torch.float64) / half)
    angles = torch.arange(config.context_length, dtype=torch.float64)[:, None] * frequencies
    return angles.cos().float(), angles.sin().float()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the first rotary_dims of each head, pairs (i, i + half); the rest pass through.

    x: (batch, heads, seq, head_dim); cos, sin: (seq, half).
    """
    half = cos.shape[-1]
    a, b, rest = x[..., :half], x[..., half : 2 * half], x[..., 2 * half :]
    return torch.cat((a * cos - b * sin, b * cos + a * sin, rest), dim=-1)


def additive(allowed: Tensor) -> Tensor:
    """0 where allowed, -inf elsewhere: made once a step, where every layer would make its own."""
    return torch.zeros(allowed.shape, device=allowed.device).masked_fill(~allowed, float("-inf"))


def causal_mask(segments: Tensor) -> Tensor:
    """0 where query i may see key j: j <= i, same segment; else -inf. (batch, 1, seq, seq)."""
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return additive(same.tril())


def window_masks(
    seq: int, window: int, segments: Tensor | None, device: torch.device
) -> list[Tensor]:
    """`causal_mask` within the window, a block of queries at a time.

    Query i sees keys j with 0 <= i - j < window, same segment. Each mask is (batch or 1, 1,
    queries, keys); its keys are those from window - 1 before the first query to the last query.
    """
    block = QUERY_BLOCK if device.type == "cpu" else LONG_QUERY_BLOCK
    masks = []
    for start in range(0, seq, block):
        end = min(start + block, seq)
        queries = torch.arange(start, end, device=device)
        keys = torch.arange(max(0, start - window + 1), end, device=device)
        distance = queries[:, None] - keys
        allowed = ((distance >= 0) & (distance < window))[None, None]
        if segments is not None:
            of_query, of_key = segments[:, None, queries, None], segments[:, None, None, keys]
            allowed = allowed & (of_query == of_key)
        masks.append(additive(allowed))
    return masks


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, masks: list[Tensor]) -> Tensor:
    """Attention of each query to the keys in its window, a block of queries at a time.

    q: (batch, n_heads, seq, head_dim); k, v: (batch, n_kv_heads, seq, head_dim); masks:
    from `window_masks`. Returns the shape of q.
    """
    mixed, start = [], 0
    for mask in masks:
        n_queries, n_keys = mask.shape[-2:]
        end = start + n_queries
        keys = slice(end - n_keys, end)
        mixed.append(
            F.scaled_dot_product_attention(
                q[:, :, start:end], k[:, :, keys], v[:, :, keys], attn_mask=mask, enable_gqa=True
            )
        )
        start = end
    return torch.cat(mixed, dim=2)


class Attention(nn.Module):
    """Card: '4 heads, 2 KV heads', 'sliding window 512', 'RoPE on 25%'. No biases."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.n_heads, self.n_kv_heads = config.n_heads, config.n_kv_heads
        self.head_dim = config.head_dim
        kv_width = config.n_kv_heads * config.head_dim
        self.qkv = nn.Linear(config.d_model, config.d_model + 2 * kv_width, bias=False)
        self.out = nn.Linear(config.d_model, config.d_model, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        *,
        mask: Tensor | list[Tensor] | None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x: (batch, seq, d_model); cos, sin: (seq, half).

        mask: from `causal_mask`, or for a local layer from `window_masks`; None: causal. With a
        cache, the keys and values of x join it and x attends to all it holds.
        """
        batch, seq, d_model = x.shape
        q, k, v = (
            part.view(batch, seq, -1, self.head_dim).transpose(1, 2)
            for part in self.qkv(x).split(
                [d_model, self.n_kv_heads * self.head_dim, self.n_kv_heads * self.head_dim], -1
            )
        )  # q: (batch, n_heads, seq, head_dim); k, v: (batch, n_kv_heads, seq, head_dim)
        q, k = rotate(q, cos, sin), rotate(k, cos, sin)
        if cache is not None:
            k, v, mask = cache.append(k, v)
            mixed = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True)
        elif isinstance(mask, list):
            mixed = windowed_attention(q, k, v, mask)
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
        return self.out(mixed.transpose(1, 2).reshape(batch, seq, d_model))
