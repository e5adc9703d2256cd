"""Memory of a run of many small steps, in both phases, as JSON. It should stay what it was.

Run: python benchmarks/long_run.py > benchmarks/results/long_run.json (needs Linux; minutes)
"""

import argparse
import dataclasses
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import mock

from tinymemorylm.config import Architecture, Recipe, load_recipe
from tinymemorylm.training import loop
from tinymemorylm.training.phases import train

SMALL = Architecture(d_model=16, d_ff=16, n_logical_layers=3, n_unique_layers=3, mtp_horizons=(2,))
WARM_UP = 0.1
"""Share of a phase after which nothing more should be taken."""


def recipe(steps: int) -> Recipe:
    """`steps` steps of 128 tokens in each phase, with all that a run does between them."""
    often = {"validate_every": 250, "checkpoint_every": 500, "sample_every": 1000}
    size = {"tokens": 128 * steps, "batch_size": 1, "sequence_length": 128}
    base = load_recipe(Path("smoke"))
    return dataclasses.replace(
        base,
        architecture=SMALL,
        copying_heads=False,
        data=("storyworld:1:100KB",),
        chat_data=("storyworld:2:20KB",),
        pretrain=dataclasses.replace(base.pretrain, **size, **often),
        sft=dataclasses.replace(base.sft, **size, **often, relevance_groups=1),
    )


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--steps", type=int, default=10_000, help="in each phase")
    steps = options.parse_args().steps
    seen: list[int] = []  # before each step of both phases

    def step(*args: Any, **more: Any) -> Any:
        seen.append(resident_bytes())
        return original(*args, **more)

    original, began = loop.train_step, time.monotonic()
    with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "train_step", step):
        train(recipe(steps), Path(folder) / "run", device="cpu")
    phases = {}
    for name, part in (("pretrain", seen[:steps]), ("sft", seen[steps:])):
        warm, end = int(steps * WARM_UP), len(part) // 20
        before, after = max(part[warm : warm + end]), max(part[-end:])
        phases[name] = {
            "steps": len(part),
            "megabytes_after_warm_up": round(before / 1e6, 1),
            "megabytes_at_the_end": round(after / 1e6, 1),
            "growth": round(after / before - 1, 5),
        }
    seconds = round(time.monotonic() - began)
    print(json.dumps({"phases": phases, "warm_up": WARM_UP, "seconds": seconds}, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
