"""The pinned run: 30 steps whose losses stay the same to the bit while code is only rearranged.

Both phases of a small model on storyworld data with every objective on, one thread. Prints how far
this machine's losses are from the pinned ones; with --write it pins them. Pin anew only for work
that is meant to change the numbers, with the evidence for it in the same commit; or, without
touching the other pins, for a machine that has none yet.

Run: python benchmarks/pin_losses.py [--write]
"""

import argparse
import dataclasses
import json
import platform
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from tinymemorylm.config import Architecture, Recipe, load_recipe
from tinymemorylm.files import read_json, write_text
from tinymemorylm.training import loop
from tinymemorylm.training.phases import train

PINS = Path(__file__).parents[1] / "tests" / "training" / "pinned_losses.json"
TOLERANCE = 1e-4
"""Relative. Other instruction sets add in another order, and 30 steps carry that on."""


def recipe() -> Recipe:
    """18 steps of pretraining (the last three long), 12 of SFT; 256 tokens a step."""
    base = load_recipe(Path("smoke"))
    size = {"batch_size": 4, "sequence_length": 64, "validate_every": 99, "checkpoint_every": 99}
    return dataclasses.replace(
        base,
        architecture=Architecture(embedding_rank=24),
        data=("storyworld:1:40KB",),
        chat_data=("storyworld:2:20KB",),
        pretrain=dataclasses.replace(
            base.pretrain,
            tokens=256 * 18,
            long_share=1 / 6,
            long_sequence_length=128,
            warmup_steps=5,
            boost_anneal=0.75,
            **size,
        ),
        sft=dataclasses.replace(
            base.sft,
            tokens=256 * 12,
            optimizer="muon",
            prompt_weight=0.5,
            warmup_steps=3,
            **{**size, "batch_size": 2, "sequence_length": 128},
        ),
    )


def pinned_run() -> list[float]:
    """The losses of the 30 steps, in order."""
    losses: list[float] = []

    def step(*args: Any, **more: Any) -> Any:
        figures = original(*args, **more)
        losses.append(figures.loss)
        return figures

    original, threads = loop.train_step, torch.get_num_threads()
    try:
        with tempfile.TemporaryDirectory() as folder, mock.patch.object(loop, "train_step", step):
            train(recipe(), Path(folder) / "run", device="cpu", threads=1)
    finally:
        torch.set_num_threads(threads)
    return losses


def machine() -> dict[str, str]:
    """What decides the bits beside the code: equal machines add in the same order."""
    listed = Path("/proc/cpuinfo")
    cpu = platform.processor() or platform.machine()
    if listed.exists():
        first = listed.read_text().split("\n\n")[0]
        fields = dict(map(str.strip, line.split(":", 1)) for line in first.splitlines())
        wanted = ("model name", "cpu family", "model", "stepping")
        cpu = ", ".join(fields[name] for name in wanted if name in fields) or cpu
    return {
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cpu": cpu,
        "torch": str(torch.__version__),
    }


def own_pin(pins: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The pin made on a machine like this one, if there is one."""
    return next((pin for pin in pins if pin["machine"] == machine()), None)


def furthest(losses: list[float], pinned: list[float]) -> float:
    """The largest relative difference between two runs of as many steps."""
    return max(abs(a - b) / abs(b) for a, b in zip(losses, pinned, strict=True))


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--write", action="store_true", help="pin this machine's losses")
    write = options.parse_args().write
    pins = read_json(PINS)["pins"] if PINS.exists() else []
    losses = pinned_run()
    own = own_pin(pins)
    apart = [furthest(losses, pin["losses"]) for pin in pins]
    same = own is not None and own["losses"] == losses
    report = {
        "machine": machine(),
        "steps": len(losses),
        "same_to_the_bit": same if own else None,
        "furthest_from_each_pin": apart,
    }
    print(json.dumps(report, indent=1))
    if write:
        # Pins of other machines that no longer hold are pins of other numbers.
        kept = [
            pin
            for pin, distance in zip(pins, apart, strict=True)
            if pin["machine"] != machine() and distance <= TOLERANCE
        ]
        content = {"pins": [*kept, {"machine": machine(), "losses": losses}]}
        write_text(PINS, json.dumps(content, indent=1) + "\n")
        return 0
    return 0 if same or (own is None and min(apart, default=1.0) <= TOLERANCE) else 1


if __name__ == "__main__":
    sys.exit(main())
