"""AdamW and its schedule.

In: a model and a phase's settings. Out: the optimiser, and the learning rate of any step.
"""

import math

import torch
from torch import nn

from tinymemorylm.config import Phase


def make_optimizer(model: nn.Module, phase: Phase) -> torch.optim.AdamW:
    """AdamW (0.9, 0.95); weight decay on matrices only, not on norms and scales."""
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": phase.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=phase.learning_rate,
        betas=(0.9, 0.95),
        fused=True,
    )


def learning_rate(phase: Phase, step: int, n_steps: int) -> float:
    """Linear warmup, then a cosine to the minimum at the last step. `step` counts from 0."""
    warmup = min(phase.warmup_steps, n_steps)
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - 1 - warmup)
    fall = phase.learning_rate - phase.min_learning_rate
    return phase.min_learning_rate + fall * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
