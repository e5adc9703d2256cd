"""Multi-token prediction: one light head per further horizon, sharing the unembedding.

In: the trunk's last states (batch, seq, d_model). Out: what horizon k unembeds,
RMSNorm_k(A_k h_t) (card, 'Multi-Token Prediction'; after Gloeckle et al. 2024).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig


class HorizonHead(nn.Module):
    """Adapter and norm of one horizon; a low-rank adapter adds to its input instead."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.rank = config.mtp_rank
        if self.rank is None:
            self.adapter = nn.Linear(config.d_model, config.d_model, bias=False)
        else:
            self.down = nn.Linear(config.d_model, self.rank, bias=False)
            self.up = nn.Linear(self.rank, config.d_model, bias=False)
        self.norm = nn.RMSNorm(config.d_model, eps=config.norm_eps)

    def forward(self, states: Tensor) -> Tensor:
        if self.rank is None:
            return self.norm(self.adapter(states))
        # The trunk's scale is free: normalise before adding, or the low-rank part is lost.
        states = F.rms_norm(states, states.shape[-1:])
        return self.norm(states + self.up(self.down(states)))
