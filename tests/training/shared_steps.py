"""Single steps by however many processes: what tests hold against one.

In: a folder, and torchrun's environment. Out: a file per process with what each case came to.
"""

import dataclasses
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch

from tinymemorylm.batches import Batch
from tinymemorylm.config import Phase, preset
from tinymemorylm.errors import RunError
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.training.distributed import ALONE, Processes, joined
from tinymemorylm.training.optimizer import make_optimizer
from tinymemorylm.training.step import TokenTable, train_step, validation_figures

SEQ, AHEAD = 40, 3
TABLE = TokenTable(torch.arange(512) % 2 == 0, torch.arange(512) % 5)
PHASE = Phase(batch_size=6, sequence_length=SEQ, relevance_weight=0.5)


@dataclasses.dataclass(frozen=True)
class Case:
    rows: int = 6
    chat: bool = False
    groups: int = 0
    memory: int = 1 << 30
    n_layers: int | None = None
    phase: dict[str, Any] = dataclasses.field(default_factory=dict)


CASES = {
    "even": Case(rows=8),
    "uneven": Case(rows=7),
    "one row": Case(rows=1),
    "micro-batches": Case(rows=7, memory=1),
    "unlike numbers of micro-batches": Case(rows=5, memory=2_000_000),
    "tuning": Case(chat=True, groups=5),
    "tuning, one row and group": Case(rows=1, chat=True, groups=1, memory=1),
    "no further horizons": Case(phase={"mtp_weight": 0.0}),
    "horizons in turns, one pass": Case(n_layers=3, phase={"mtp_every": 2}),
    "muon": Case(rows=7, phase={"optimizer": "muon"}),
    "clipped": Case(rows=7, phase={"max_grad_norm": 0.01}),
}


def batch(rows: int, chat: bool) -> Batch:
    rng = np.random.default_rng(2)
    shape = (rows, SEQ + AHEAD)
    tokens = rng.integers(6, 512, shape)
    segments = (rng.random(shape) < 0.05).cumsum(1)
    # Rows are unlike in how many targets they have: means of means would be wrong.
    is_target = rng.random(shape) < np.linspace(0.1, 1, rows)[:, None]
    index = rng.integers(0, 30, shape) * (rng.random(shape) < 0.5) if chat else None
    return Batch(tokens, segments, is_target, index)


def relevance_rows(groups: int) -> Batch | None:
    rng = np.random.default_rng(3)
    shape = (2 * groups, 9)
    index = np.tile([0, 0, 0, 0, 1, 2, 3, 4, 5], (2 * groups, 1))
    index[::3, 7:] = 0
    tokens = rng.integers(6, 512, shape)
    return Batch(tokens, np.zeros(shape, int), index >= 0, index) if groups else None


def take(case: Case, processes: Processes = ALONE, poison: bool = False) -> dict[str, Any]:
    """Two steps' figures, gradients, weights and the rows that this process ran."""
    model = initialise(Transformer(preset("smoke")), 3)
    if poison:
        model.final_norm.weight.data[0] = float("nan")
    phase = dataclasses.replace(PHASE, **case.phase)
    optimizer, seen = make_optimizer(model, phase), []
    model.register_forward_pre_hook(lambda _, inputs: seen.extend(inputs[0].tolist()))
    figures = []
    for step in range(2):
        done = train_step(
            model,
            optimizer,
            batch(case.rows, case.chat),
            relevance_rows(case.groups),
            phase,
            TABLE,
            seq=SEQ,
            step=step,
            progress=0.25,
            n_layers=case.n_layers,
            learning_rate=1e-3,
            memory_bytes=case.memory,
            processes=processes,
        )
        simple = {name: v for name, v in vars(done).items() if isinstance(v, float)}
        figures.append(simple | done.horizon_nll)
    return {
        "figures": figures,
        "gradients": {n: p.grad for n, p in model.named_parameters()},
        "weights": {n: p.detach() for n, p in model.named_parameters()},
        "rows": seen,
    }


def validate(processes: Processes = ALONE) -> tuple[float, float]:
    model = initialise(Transformer(preset("smoke")), 3)
    batches = [batch(rows, chat=False) for rows in (3, 1, 2)]
    return validation_figures(model, batches, SEQ, TABLE, processes)


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as processes:
        result: dict[str, Any] = {name: take(case, processes) for name, case in CASES.items()}
        result["validation"] = validate(processes)
        try:
            take(CASES["even"], processes, poison=processes.rank == processes.size - 1)
        except RunError as error:
            result["not finite"] = str(error)
        result["any"] = [processes.any(processes.rank == 1), processes.any(False)]
        torch.save(result, folder / f"{processes.rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
