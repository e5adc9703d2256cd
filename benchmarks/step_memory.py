"""Peak memory of one training step of 48 sequences of 2,048 tokens, all objectives on, as JSON.

The micro-batch choice must keep it under 6 GiB. Run: python benchmarks/step_memory.py (needs Unix;
minutes)
"""

import argparse
import json
import resource
import sys
import time

import torch

from tinymemorylm.config import preset
from tinymemorylm.lab.throughput import our_side
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.training.machine import activation_budget
from tinymemorylm.training.step import micro_batch_rows

LIMIT_GIB = 6.0


def peak_gib() -> float:
    """The most this process has held so far. macOS counts bytes, others kilobytes."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**30


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--preset", default="haiku-literal")
    options.add_argument("--rows", type=int, default=48)
    options.add_argument("--sequence", type=int, default=2048)
    given = options.parse_args()
    config = preset(given.preset)
    side = our_side(config, given.sequence, "pretrain", given.rows)
    budget = activation_budget(torch.device("cpu"))
    before, began = peak_gib(), time.perf_counter()
    side.step()
    seconds, peak = time.perf_counter() - began, peak_gib()
    rows = micro_batch_rows(Transformer(config), given.sequence, given.rows, budget)
    report = {
        "preset": given.preset,
        "rows": given.rows,
        "sequence": given.sequence,
        "rows_per_micro_batch": rows,
        "seconds": round(seconds, 1),
        "gib_before": round(before, 2),
        "gib_peak": round(peak, 2),
    }
    print(json.dumps(report, indent=1))
    return 0 if peak < LIMIT_GIB else 1


if __name__ == "__main__":
    sys.exit(main())
