"""Muon: momentum whose matrix is replaced by the nearest one with equal singular values.

In: matrices and their gradients. Out: updated matrices. Matrices of one shape are orthogonalised
together in float32: torch.optim.Muon takes one after the other in bfloat16, which many CPUs
only emulate (docs/lab-notes.md has the figures).
"""

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""A quintic whose iterates pull every singular value towards 1 (Jordan 2024)."""
ITERATIONS = 5


def orthogonalised(matrices: Tensor) -> Tensor:
    """U V^T of each matrix's singular value decomposition, nearly: (n, rows, columns).

    Newton-Schulz iteration on the shorter side; singular values end between about 0.7 and 1.2.
    """
    a, b, c = COEFFICIENTS
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / x.norm(dim=(1, 2), keepdim=True).clamp(min=1e-7)
    for _ in range(ITERATIONS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon (Jordan 2024) with Nesterov momentum and decoupled weight decay, matrices only.

    A step moves a matrix by lr times its orthogonalised momentum, times sqrt(rows / columns)
    where that is above 1.
    """

    def __init__(
        self, params: Iterable[Tensor], lr: float, momentum: float, weight_decay: float
    ) -> None:
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """One update of every matrix that has a gradient."""
        for group in self.param_groups:
            by_shape: dict[torch.Size, list[Tensor]] = defaultdict(list)
            for p in group["params"]:
                if p.grad is not None:
                    by_shape[p.shape].append(p)
            for (rows, columns), matrices in by_shape.items():
                ahead = torch.stack([self._ahead(p, group["momentum"]) for p in matrices])
                rate = group["lr"] * max(1.0, rows / columns) ** 0.5
                for p, direction in zip(matrices, orthogonalised(ahead), strict=True):
                    p.mul_(1 - group["lr"] * group["weight_decay"]).sub_(direction, alpha=rate)

    def _ahead(self, p: Tensor, momentum: float) -> Tensor:
        """The matrix's momentum after its gradient, looked at one step further (Nesterov)."""
        assert p.grad is not None
        state = self.state[p]
        if not state:
            state["momentum"] = torch.zeros_like(p)
        state["momentum"].lerp_(p.grad, 1 - momentum)
        return p.grad.lerp(state["momentum"], momentum)
