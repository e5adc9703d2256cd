"""What a training step's time is made of, and what keeps it from the speed of sgemm.

One pretraining step of `tmlm bench train`, batch making included, under torch's profiler. Every
operator's own time goes to one part, by the scope it ran in, forward and backward. FLOPs of matrix
products follow from their shapes, attention's are counted: `ideal` is what they would take at the
speed of large sgemm measured in the same run, and a part's `gap` is the rest of its time. The gaps
and the ideal time add up to the profiled step. Profiling itself makes small operators look larger:
`seconds_plain` is the same step without it. `elementwise_operators` says where that part's time is.

Run: python benchmarks/profile_step.py --sequence 256 > benchmarks/results/profile_step.json
"""

import argparse
import json
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch.profiler import ProfilerActivity, profile, record_function

from tinymemorylm.batches import TextBatches, TokenStream
from tinymemorylm.config import ModelConfig, preset
from tinymemorylm.lab.results import hardware
from tinymemorylm.lab.throughput import (
    PHASE,
    SGEMM_SIZE,
    TOKENS,
    attention_flops_per_token,
    sgemm_gflops,
    training_flops_per_token,
)
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.packing import StreamWriter
from tinymemorylm.training.machine import activation_budget
from tinymemorylm.training.optimizer import make_optimizer
from tinymemorylm.training.step import TokenTable, train_step

PRODUCTS = {"aten::mm", "aten::addmm", "aten::addmm_", "aten::bmm", "aten::baddbmm"}
PARTS = {
    "data": "making the batch",
    "trunk_products": "matrix products of the layers and horizon adapters",
    "attention": "scores, softmax and mixing",
    "unembedding_products": "unembedding and its gradients",
    "unembedding_rest": "softmax and loss over the vocabulary",
    "optimiser": "AdamW",
    "elementwise": "norms, SwiGLU, rotary, residuals, copies, clipping",
    "python": "outside of operators",
}


class Step:
    """One training step at a time, on random tokens from a packed stream."""

    def __init__(self, config: ModelConfig, seq: int, folder: Path) -> None:
        self.seq, self.number = seq, 0
        writer = StreamWriter(folder, "train")
        writer.add(np.random.default_rng(0).integers(6, config.vocab_size, 40 * TOKENS))
        writer.close()
        ahead = max((1, *config.mtp_horizons))
        self.batches = TextBatches(TokenStream(folder, "train"), 1, seq, ahead, 0)
        self.model = initialise(Transformer(config), 0).train()
        self.optimizer = make_optimizer(self.model, PHASE)
        lengths = torch.full((config.vocab_size,), 3, dtype=torch.int64)
        self.table = TokenTable(torch.arange(config.vocab_size) % 2 == 0, lengths)
        self.memory_bytes = activation_budget(torch.device("cpu"))

    def __call__(self) -> None:
        rows = TOKENS // self.seq
        with record_function("data"):
            batch = self.batches.batch(self.number * rows, rows)
        train_step(
            self.model,
            self.optimizer,
            batch,
            None,
            PHASE,
            self.table,
            seq=self.seq,
            step=self.number,
            progress=0.0,
            learning_rate=PHASE.learning_rate,
            memory_bytes=self.memory_bytes,
        )
        self.number += 1


def part_of(event: Any) -> str:
    """The part an operator's own time belongs to, by its name and what it ran in."""
    names = [event.name]
    while event.cpu_parent is not None:
        event = event.cpu_parent
        names.append(event.name)
    if "data" in names:
        return "data"
    if any(name.startswith("Optimizer.step") for name in names):
        return "optimiser"
    if any("LinearCrossEntropy" in name for name in names):
        return "unembedding_products" if names[0] in PRODUCTS else "unembedding_rest"
    if any("scaled_dot_product" in name or "ScaledDotProduct" in name for name in names):
        return "attention"
    return "trunk_products" if names[0] in PRODUCTS else "elementwise"


@dataclass
class Profile:
    """A step's seconds; by part its seconds and FLOPs, by operator those of `elementwise`."""

    total: float
    seconds: dict[str, float]
    flops: dict[str, float]
    elementwise: dict[str, float]


def profiled(step: Step, steps: int) -> Profile:
    """Means over `steps` steps."""
    seconds, flops, elementwise = (defaultdict[str, float](float) for _ in range(3))
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as found:
        began = time.perf_counter()
        for _ in range(steps):
            step()
        total = (time.perf_counter() - began) / steps
    for event in found.events():
        part = part_of(event)
        own = event.self_cpu_time_total / 1e6 / steps
        seconds[part] += own
        if part == "elementwise":
            elementwise[event.name] += own
        if event.name in PRODUCTS:
            flops[part] += products_flops(event) / steps
    seconds["python"] = total - sum(seconds.values())
    config = step.model.config
    flops["attention"] = attention_flops_per_token(config, step.seq) * TOKENS
    return Profile(total, seconds, flops, elementwise)


def products_flops(event: Any) -> float:
    """2 x rows x inner x columns of a matrix product, from the shapes of its last two matrices."""
    matrices = [shape for shape in event.input_shapes if len(shape) >= 2]
    (*batch, rows, inner), (*_, columns) = matrices[-2], matrices[-1]
    return 2.0 * float(np.prod(batch)) * rows * inner * columns


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", default="haiku-literal")
    options.add_argument("--sequence", type=int, default=256)
    options.add_argument("--steps", type=int, default=5)
    given = options.parse_args()
    config = preset(given.preset)
    with TemporaryDirectory() as folder:
        step = Step(config, given.sequence, Path(folder))
        step()
        sgemm, plain = [], []
        for _ in range(given.steps):
            sgemm.append(sgemm_gflops(SGEMM_SIZE, 0.3))
            began = time.perf_counter()
            step()
            plain.append(time.perf_counter() - began)
        found = profiled(step, given.steps)
    gflops = median(sgemm)
    report = {
        "preset": given.preset,
        "sequence": given.sequence,
        "tokens_per_step": TOKENS,
        "hardware": hardware(1, torch.get_num_threads(), "cpu"),
        "sgemm_gflops": round(gflops, 1),
        "counted_gflop": round(training_flops_per_token(config, given.sequence) * TOKENS / 1e9, 1),
        "seconds_plain": round(median(plain), 4),
        "seconds_profiled": round(found.total, 4),
        "parts": [_part(name, found, found.flops[name] / gflops / 1e9) for name in PARTS],
        "elementwise_operators": {
            name: round(seconds, 4)
            for name, seconds in sorted(found.elementwise.items(), key=lambda item: -item[1])[:12]
        },
    }
    ideal = sum(part["ideal"] for part in report["parts"])
    report["ideal_share"] = round(ideal / found.total, 4)
    print(json.dumps(report, indent=1))
    print(table(report, ideal), file=sys.stderr)
    return 0


def _part(name: str, found: Profile, ideal: float) -> dict[str, Any]:
    seconds = found.seconds[name]
    return {
        "part": name,
        "what": PARTS[name],
        "seconds": round(seconds, 4),
        "share": round(seconds / found.total, 4),
        "ideal": round(ideal, 4),
        "gap": round(seconds - ideal, 4),
        "gap_share": round((seconds - ideal) / found.total, 4),
    }


def table(report: dict[str, Any], ideal: float) -> str:
    """The parts as Markdown, largest gap first."""
    lines = ["| part | ms | at sgemm speed, ms | gap, share of the step |", "|---|---|---|---|"]
    for part in sorted(report["parts"], key=lambda part: -part["gap"]):
        lines.append(
            f"| {part['what']} | {1e3 * part['seconds']:.0f} | {1e3 * part['ideal']:.0f} | "
            f"{part['gap_share']:.1%} |"
        )
    total = 1e3 * report["seconds_profiled"]
    lines.append(f"| all | {total:.0f} | {1e3 * ideal:.0f} | {1 - report['ideal_share']:.1%} |")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
