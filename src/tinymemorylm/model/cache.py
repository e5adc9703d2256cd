"""The key-value cache: what decoding remembers instead of running the past again.

In: keys and values of new positions, a block at a time. Out: all keys and values a layer
may still look at, with the mask for the new queries. Local layers keep a ring.
"""

from collections.abc import Sequence
from copy import copy

import torch
from torch import Tensor

from tinymemorylm.config import ModelConfig

PREFILL_BLOCK = 256
"""The most positions one forward pass may append."""


class LayerCache:
    """Keys and values of one logical layer in slots; position p lives in slot p mod capacity.

    A local layer needs window + PREFILL_BLOCK - 1 slots: a block's first query still sees
    window - 1 keys before it after the block's own keys are written.
    """

    def __init__(self, config: ModelConfig, window: int | None, batch: int, like: Tensor) -> None:
        self.window = window
        self.capacity = config.context_length
        if window is not None:
            self.capacity = min(self.capacity, window + PREFILL_BLOCK - 1)
        shape = (batch, config.n_kv_heads, self.capacity, config.head_dim)
        self.k, self.v = like.new_zeros(shape), like.new_zeros(shape)
        self.positions = torch.full((self.capacity,), -1, device=like.device)
        self.length = 0

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Store k, v (batch, n_kv_heads, new, head_dim) at the next positions.

        Returns the slots in use and the mask (new, slots), true where a new query may look.
        """
        new = torch.arange(self.length, self.length + k.shape[2], device=k.device)
        slots = new % self.capacity
        self.k[:, :, slots], self.v[:, :, slots] = k, v
        self.positions[slots] = new
        self.length += k.shape[2]
        used = min(self.length, self.capacity)
        distance = new[:, None] - self.positions[None, :used]
        mask = distance >= 0
        if self.window is not None:
            mask &= distance < self.window
        return self.k[:, :, :used], self.v[:, :, :used], mask

    def repeated(self, n: int) -> "LayerCache":
        """The same past, n times in the batch; the two go on apart."""
        other = copy(self)
        other.k, other.v = self.k.repeat(n, 1, 1, 1), self.v.repeat(n, 1, 1, 1)
        other.positions = self.positions.clone()
        return other


class Cache:
    """One `LayerCache` per logical layer (tied layers share weights, not memories)."""

    def __init__(self, config: ModelConfig, batch: int, like: Tensor) -> None:
        self.layers = [
            LayerCache(config, None if config.is_global(i) else config.sliding_window, batch, like)
            for i in range(config.n_logical_layers)
        ]

    def repeated(self, n: int) -> "Cache":
        """A copy for n continuations of one past."""
        other = copy(self)
        other.layers = [layer.repeated(n) for layer in self.layers]
        return other

    @property
    def length(self) -> int:
        """Positions seen so far."""
        return self.layers[0].length

    def keep(self, rows: Sequence[int]) -> None:
        """Go on with these rows of the batch alone."""
        for layer in self.layers:
            layer.k, layer.v = layer.k[rows], layer.v[rows]

    @property
    def n_bytes(self) -> int:
        return sum(2 * layer.k.nbytes for layer in self.layers)
