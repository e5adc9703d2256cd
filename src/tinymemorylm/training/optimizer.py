"""The optimisers and their schedule.

In: a model and a phase's settings. Out: AdamW, or Muon beside AdamW, as one optimiser; and
the learning rate of any step.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch

from tinymemorylm.config import Phase
from tinymemorylm.errors import InputError
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.training.muon import Muon

BETA1 = 0.9
MUON_MOMENTUM = 0.95
MUON_LR_SCALE = 3.0
"""Muon's steps have a fixed size per matrix, so its rate is another; see docs/lab-notes.md."""


class Optimizer:
    """Several torch optimisers stepped as one; a group's `lr_scale` multiplies the rate."""

    def __init__(self, parts: Sequence[torch.optim.Optimizer]) -> None:
        self.parts = parts

    @property
    def param_groups(self) -> list[dict[str, Any]]:
        return [group for part in self.parts for group in part.param_groups]

    def zero_grad(self) -> None:
        for part in self.parts:
            part.zero_grad()

    def step(self) -> None:
        for part in self.parts:
            part.step()

    def state_dict(self) -> list[dict[str, Any]]:
        return [part.state_dict() for part in self.parts]

    def load_state_dict(self, states: list[dict[str, Any]]) -> None:
        """What the optimisers remember. Rates and decays stay those of this recipe.

        Raises InputError for the state of another optimiser.
        """
        own = [{k: v for k, v in g.items() if k != "params"} for g in self.param_groups]
        try:
            for part, state in zip(self.parts, states, strict=True):
                part.load_state_dict(state)
        except (ValueError, KeyError) as error:
            raise InputError(
                f"the checkpoint is of another optimizer ({error}): it can't change within a phase"
            ) from None
        for group, settings in zip(self.param_groups, own, strict=True):
            group.update(settings)


def make_optimizer(model: Transformer, phase: Phase) -> Optimizer:
    """AdamW (Loshchilov and Hutter 2019), or with `muon` Muon (Jordan 2024) for the matrices
    inside the trunk. Weight decay is on matrices only, not on norms and scales.
    """
    matrices = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    parts: list[torch.optim.Optimizer] = []
    if phase.optimizer == "muon":
        table = model.embedding.weight
        trunk = [p for p in matrices if p is not table]
        matrices = [table]
        muon = Muon(trunk, phase.learning_rate, MUON_MOMENTUM, phase.weight_decay)
        for group in muon.param_groups:
            group["lr_scale"] = MUON_LR_SCALE
        parts.append(muon)
    adamw = torch.optim.AdamW(
        [
            {"params": matrices, "weight_decay": phase.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=phase.learning_rate,
        betas=(BETA1, phase.adam_beta2),
        fused=True,
    )
    return Optimizer([*parts, adamw])


def learning_rate(phase: Phase, step: int, n_steps: float) -> float:
    """Linear warmup, then a cosine to the minimum at the last step. `step` counts from 0."""
    warmup = min(phase.warmup_steps, n_steps)
    if step < warmup:
        return phase.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, n_steps - 1 - warmup)
    fall = phase.learning_rate - phase.min_learning_rate
    return phase.min_learning_rate + fall * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
