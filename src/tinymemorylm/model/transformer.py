"""The whole decoder: embed, run the tied blocks in order, hand out states and logits.

In: token ids (batch, seq). Out: states (batch, seq, d_model), from which `head_input` and
the tied embedding make the logits of the next token or of a further horizon.
"""

import torch
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.model.attention import causal_mask, rotary_tables, window_masks
from tinymemorylm.model.block import Block, FeedForward
from tinymemorylm.model.cache import Cache
from tinymemorylm.model.mtp import HorizonHead


class Transformer(nn.Module):
    """Card: 8 unique blocks run as 16 layers, every third one global."""

    cos: Tensor
    sin: Tensor

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.embedding_rank or config.d_model)
        if config.embedding_rank is not None:
            self.embedding_projection = nn.Linear(config.embedding_rank, config.d_model, bias=False)
        self.embedding_scale = nn.Parameter(torch.empty(1))
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.n_unique_layers))
        self.ffns = nn.ModuleList(FeedForward(config) for _ in range(config.n_unique_ffns))
        self.final_norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.horizons = nn.ModuleDict({str(k): HorizonHead(config) for k in config.mtp_horizons})
        cos, sin = rotary_tables(config)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)

    def forward(
        self,
        tokens: Tensor,
        segments: Tensor | None = None,
        cache: Cache | None = None,
        n_layers: int | None = None,
    ) -> Tensor:
        """States after the last block, before any output norm: (batch, seq, d_model).

        tokens: (batch, seq). segments: (batch, seq), positions attend only within their own
        segment. cache: tokens continue what it holds (at most PREFILL_BLOCK of them). n_layers:
        run only the first logical layers, as some steps of training do.
        Raises InputError beyond the context length.
        """
        config, seq = self.config, tokens.shape[1]
        start = cache.length if cache is not None else 0
        if start + seq > config.context_length:
            raise InputError(f"{start + seq} tokens exceed the context of {config.context_length}")
        cos, sin = self.cos[start : start + seq], self.sin[start : start + seq]

        full = local = None if segments is None else causal_mask(segments)
        if seq > config.sliding_window:
            local = window_masks(seq, config.sliding_window, segments, tokens.device)

        x = self.embedding(tokens)
        if config.embedding_rank is not None:
            x = self.embedding_projection(x)
        x = x * self.embedding_scale
        for i in range(n_layers or config.n_logical_layers):
            block = config.block_index(i)
            x = self.blocks[block](
                x,
                self.ffns[block % config.n_unique_ffns],
                cos,
                sin,
                mask=full if config.is_global(i) else local,
                cache=None if cache is None else cache.layers[i],
            )
        return x

    def head_input(self, states: Tensor, horizon: int = 1) -> Tensor:
        """What the tied embedding (vocab_size, width) unembeds: (batch, seq, width).

        horizon 1 is the main head; others must be among the config's `mtp_horizons`.
        """
        head = self.final_norm if horizon == 1 else self.horizons[str(horizon)]
        x = head(states)
        if self.config.embedding_rank is not None:
            x = x @ self.embedding_projection.weight
        return x

    def logits(self, states: Tensor, horizon: int = 1) -> Tensor:
        """(batch, seq, vocab_size). For training use `objectives`, which never holds them all."""
        return self.head_input(states, horizon) @ self.embedding.weight.T
