"""What it costs to be a group of one process: our way, and DistributedDataParallel's.

Run: python benchmarks/distributed_cost.py > benchmarks/results/distributed_cost.json (minutes)

A step of each takes turns with a plain step, in another order each round, in this one process, a
group of its own (gloo). Ratios are medians of the rounds' ratios to the plain step: of seconds, and
of CPU seconds, which a busy machine disturbs less. `exchange_seconds` is what ours adds, by itself.
"""

import argparse
import copy
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from tinymemorylm.batches import Batch
from tinymemorylm.config import load_recipe
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.training.distributed import ALONE, Processes, joined
from tinymemorylm.training.optimizer import make_optimizer
from tinymemorylm.training.step import StepFigures, TokenTable, train_step

GROUP_OF_ONE = {
    **{"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1", "LOCAL_WORLD_SIZE": "1"},
    **{"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "0"},
}
WARM_UP = 2


class Wrapped:
    """A model whose forward is DistributedDataParallel's; all else is its own."""

    def __init__(self, model: Transformer) -> None:
        self.model, self.parallel = model, DistributedDataParallel(model)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.model, name)

    def __call__(self, *args: Any, **more: Any) -> Tensor:
        return self.parallel(*args, **more)


def some_batch(rows: int, seq: int, ahead: int, vocab_size: int) -> Batch:
    rng = np.random.default_rng(0)
    shape = (rows, seq + ahead)
    segments = np.zeros(shape, np.int64)
    return Batch(rng.integers(6, vocab_size, shape), segments, np.ones(shape, np.bool_))


def arms(rows: int, seq: int, processes: Processes) -> dict[str, Callable[[], StepFigures]]:
    """A step of recipe `haiku-cpu` in each way: one micro-batch, all horizons, no relevance."""
    recipe = load_recipe(Path("haiku-cpu"))
    config, phase = recipe.model(), recipe.pretrain
    first = initialise(Transformer(config), 0)
    batch = some_batch(rows, seq, max(config.mtp_horizons), config.vocab_size)
    ids = torch.arange(config.vocab_size)
    table = TokenTable(ids % 2 == 0, ids % 5)

    def stepping(model: Any, group: Any) -> Callable[[], StepFigures]:
        optimizer = make_optimizer(getattr(model, "model", model), phase)
        return lambda: train_step(
            model,
            optimizer,
            batch,
            None,
            phase,
            table,
            seq=seq,
            step=0,
            progress=0.0,
            learning_rate=1e-4,
            memory_bytes=1 << 34,
            processes=group,
        )

    return {
        "plain": stepping(copy.deepcopy(first), ALONE),
        "plain, again": stepping(copy.deepcopy(first), ALONE),
        "ours": stepping(copy.deepcopy(first), processes),
        "DistributedDataParallel": stepping(Wrapped(copy.deepcopy(first)), ALONE),
    }


def exchange_seconds(processes: Processes, rounds: int) -> float:
    """Median seconds of what processes exchange in a step."""
    model = Transformer(load_recipe(Path("haiku-cpu")).model())
    for p in model.parameters():
        p.grad = torch.zeros_like(p)
    taken = []
    for _ in range(WARM_UP + rounds):
        began = time.perf_counter()
        processes.sum_gradients(list(model.parameters()))
        processes.sums(dict.fromkeys(range(12), 0.0))
        processes.any(False)
        taken.append(time.perf_counter() - began)
    return statistics.median(taken[WARM_UP:])


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=40)
    options.add_argument("--rows", type=int, default=8)
    options.add_argument("--seq", type=int, default=512)
    options.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = options.parse_args()
    torch.set_num_threads(given.threads)
    os.environ.update(GROUP_OF_ONE)
    os.environ.pop("TORCHELASTIC_USE_AGENT_STORE", None)
    with joined("cpu") as processes:
        steps = arms(given.rows, given.seq, processes)
        losses: dict[str, list[float]] = {name: [] for name in steps}
        rounds: list[dict[str, tuple[float, float]]] = []  # seconds, CPU seconds
        order, rng = list(steps), random.Random(0)
        for _ in range(WARM_UP + given.rounds):
            rng.shuffle(order)
            seconds = {}
            for name in order:
                began = time.perf_counter(), time.process_time()
                losses[name].append(steps[name]().loss)
                ended = time.perf_counter(), time.process_time()
                seconds[name] = ended[0] - began[0], ended[1] - began[1]
            rounds.append(seconds)
        rounds = rounds[WARM_UP:]
        exchange = exchange_seconds(processes, given.rounds)

    def ratios(name: str, clock: int) -> list[float]:
        """Quartiles."""
        return statistics.quantiles(r[name][clock] / r["plain"][clock] for r in rounds)

    report = {
        "step": f"preset haiku, {given.rows} x {given.seq} tokens, one micro-batch",
        "hardware": f"{platform.machine()}, {given.threads} threads",
        "torch": str(torch.__version__),
        "rounds": given.rounds,
        "seconds": {n: round(statistics.median(r[n][0] for r in rounds), 4) for n in steps},
        "ratio": {n: round(ratios(n, 0)[1], 4) for n in steps},
        "ratio_quartiles": {n: [round(x, 4) for x in ratios(n, 0)[::2]] for n in steps},
        "cpu_ratio": {n: round(ratios(n, 1)[1], 4) for n in steps},
        "exchange_seconds": round(exchange, 6),
        "same_losses_to_the_bit": {n: losses[n] == losses["plain"] for n in steps},
    }
    print(json.dumps(report, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
