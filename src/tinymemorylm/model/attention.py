"""Grouped-query attention with partial rotary positions and a sliding window.

In: normalised states (batch, seq, d_model). Out: what attention adds to them. A local
layer's work grows with seq x window, never with seq x seq.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.cache import LayerCache

QUERY_BLOCK = 256
"""Queries a local layer answers at once; each block looks at window + QUERY_BLOCK keys."""


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


def causal_mask(segments: Tensor) -> Tensor:
    """True where query i may see key j: j <= i, same segment. (batch, 1, seq, seq)."""
    same = segments[:, None, :, None] == segments[:, None, None, :]
    return same.tril()


def window_mask(seq: int, window: int, segments: Tensor | None, device: torch.device) -> Tensor:
    """`causal_mask` within the window, in the blocked layout of `windowed_attention`.

    (blocks, 1, QUERY_BLOCK, window + QUERY_BLOCK) without segments, else
    (batch x blocks, ...): query i sees keys j with 0 <= i - j < window, same segment.
    """
    blocks = -(-seq // QUERY_BLOCK)
    offsets = torch.arange(window + QUERY_BLOCK, device=device) - window
    distance = torch.arange(QUERY_BLOCK, device=device)[:, None] - offsets
    band = (distance >= 0) & (distance < window)  # (queries, keys), the same in every block
    starts = torch.arange(blocks, device=device)[:, None, None] * QUERY_BLOCK
    keys = starts + offsets  # (blocks, 1, keys)
    mask = band & (keys >= 0)
    if segments is None:
        return mask[:, None]
    padded = F.pad(segments, (0, blocks * QUERY_BLOCK - seq), value=-1)
    of_query = padded.view(-1, blocks, QUERY_BLOCK, 1)
    of_key = padded[:, keys.clamp(min=0)]  # (batch, blocks, 1, keys)
    return (mask & (of_query == of_key)).flatten(0, 1)[:, None]


def windowed_attention(q: Tensor, k: Tensor, v: Tensor, window: int, mask: Tensor) -> Tensor:
    """Attention of each query to at most `window` keys, a block of queries at a time.

    q: (batch, n_heads, seq, head_dim); k, v: (batch, n_kv_heads, seq, head_dim); mask:
    from `window_mask`. Returns the shape of q.
    """
    batch, n_heads, seq, head_dim = q.shape
    n_kv_heads = k.shape[1]
    blocks = -(-seq // QUERY_BLOCK)
    tail = blocks * QUERY_BLOCK - seq
    span = window + QUERY_BLOCK

    def in_blocks(x: Tensor) -> Tensor:  # (batch x blocks, n_kv_heads, span, head_dim)
        x = F.pad(x, (0, 0, window, tail)).unfold(2, span, QUERY_BLOCK)
        return x.permute(0, 2, 1, 4, 3).reshape(-1, n_kv_heads, span, head_dim)

    q = F.pad(q, (0, 0, 0, tail)).view(batch, n_heads, blocks, QUERY_BLOCK, head_dim)
    q = q.transpose(1, 2).reshape(-1, n_heads, QUERY_BLOCK, head_dim)
    if mask.shape[0] == blocks:
        mask = mask.expand(batch, *mask.shape).flatten(0, 1)
    out = F.scaled_dot_product_attention(
        q, in_blocks(k), in_blocks(v), attn_mask=mask, enable_gqa=True
    )
    out = out.view(batch, blocks, n_heads, QUERY_BLOCK, head_dim).transpose(1, 2)
    return out.reshape(batch, n_heads, blocks * QUERY_BLOCK, head_dim)[:, :, :seq]


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
        window: int | None,
        mask: Tensor | None,
        cache: LayerCache | None = None,
    ) -> Tensor:
        """x: (batch, seq, d_model); window: None for a global layer; cos, sin: (seq, half).

        With a cache, the keys and values of x join it and x attends to all it holds.
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
        elif window is not None and seq > window:
            assert mask is not None
            mixed = windowed_attention(q, k, v, window, mask)
        else:
            mixed = F.scaled_dot_product_attention(
                q, k, v, attn_mask=mask, is_causal=mask is None, enable_gqa=True
            )
        return self.out(mixed.transpose(1, 2).reshape(batch, seq, d_model))
