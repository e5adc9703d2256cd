"""One transformer block: attention, then a SwiGLU feed-forward, each after an RMSNorm.

In and out: states (batch, seq, d_model). The feed-forward comes as an argument, since
several blocks may share one.
"""

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.attention import Attention


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020): down(silu(gate x) * up x), gate and up in one matrix."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.gate_up = nn.Linear(config.d_model, 2 * config.d_ff, bias=False)
        self.down = nn.Linear(config.d_ff, config.d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        gate, up = self.gate_up(x).chunk(2, dim=-1)  # (batch, seq, d_ff) each
        return self.down(F.silu(gate) * up)


class Block(nn.Module):
    """Pre-norm: the residual stream itself is never normalised. Its norms are its own."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.attention_norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)
        self.attention = Attention(config)
        self.ffn_norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)

    def forward(
        self, x: Tensor, ffn: FeedForward, cos: Tensor, sin: Tensor, **where: Any
    ) -> Tensor:
        x = x + self.attention(self.attention_norm(x), cos, sin, **where)
        return x + ffn(self.ffn_norm(x))
