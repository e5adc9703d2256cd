"""Peak memory of one training step of 48 sequences of 2,048 tokens, all objectives on, as JSON.

The micro-batch choice must keep it under 6 GiB. Run: python benchmarks/step_memory.py (needs Unix;
minutes)
"""

import argparse
import json
import resource
import sys
import time
from unittest import mock

from tinymemorylm.config import preset
from tinymemorylm.lab import throughput
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
    rows: list[int] = []

    def chosen(*args: int) -> int:
        rows.append(micro_batch_rows(*args))
        return rows[-1]

    with (
        mock.patch.object(throughput, "TOKENS", given.rows * given.sequence),
        mock.patch("tinymemorylm.training.step.micro_batch_rows", chosen),
    ):
        side = throughput.our_side(config, given.sequence, "pretrain")
        before, began = peak_gib(), time.perf_counter()
        side.step()
    peak = peak_gib()
    report = {
        "preset": given.preset,
        "rows": given.rows,
        "sequence": given.sequence,
        "rows_per_micro_batch": rows[0],
        "seconds": round(time.perf_counter() - began, 1),
        "gib_before": round(before, 2),
        "gib_peak": round(peak, 2),
    }
    print(json.dumps(report, indent=1))
    return 0 if peak < LIMIT_GIB else 1


if __name__ == "__main__":
    sys.exit(main())
