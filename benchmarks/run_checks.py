"""Whether a run is whole, and whether two are the same to the bit.

In: run directories. Out: lists of what is torn, gone or different; empty ones where all is well.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tinymemorylm.errors import InputError
from tinymemorylm.tensor_files import load_tensors
from tinymemorylm.training.checkpoint import checkpoint_folders, read_checkpoint, step_of

TIMES = ("seconds", "tokens_per_second")


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def equal(one: Any, two: Any) -> bool:
    """To the bit, through nested containers."""
    if isinstance(one, torch.Tensor):
        return isinstance(two, torch.Tensor) and torch.equal(one, two)
    if isinstance(one, dict):
        return one.keys() == two.keys() and all(equal(one[k], two[k]) for k in one)
    if isinstance(one, list | tuple):
        return len(one) == len(two) and all(map(equal, one, two))
    return one == two


def state(run: Path) -> dict[str, Any]:
    """The newest checkpoint, less times and the bytes of lines that hold some."""
    saved = read_checkpoint(checkpoint_folders(run)[-1])
    saved["position"].pop("seconds")
    kept = ("position", "model", "optimizer", "samples_bytes", "recipe", "origin", "changed")
    return {name: saved[name] for name in kept}


def differences(run: Path, reference: Path) -> list[str]:
    """What of a finished run is not as in the other, to the bit."""
    found = []
    for name in ("pretrain.pt", "model.pt"):
        if not equal(load_tensors(run / name), load_tensors(reference / name)):
            found.append(name)
    if not equal(state(run), state(reference)):
        found.append("the last checkpoint")
    for name in ("metrics.jsonl", "samples.jsonl"):
        rows = [
            [{k: v for k, v in row.items() if k not in TIMES} for row in lines(r / name)]
            for r in (run, reference)
        ]
        if rows[0] != rows[1]:
            found.append(name)
    return found + [f"left behind: {path.name}" for path in run.rglob(".*")]


def broken(run: Path, saved_step: int = -1) -> list[str]:
    """What is torn, doubled or gone in a run that was stopped. saved_step: what it had before."""
    found = []
    for name in ("metrics.jsonl", "samples.jsonl"):
        if not (run / name).exists():
            continue
        content = (run / name).read_bytes()
        try:
            rows = [json.loads(line) for line in content.splitlines()]
        except ValueError:
            rows = []
            found.append(f"a line of {name} is torn")
        keys = [(row["step"], row.get("prompt")) for row in rows]
        if len({*keys}) < len(keys) or (content and not content.endswith(b"\n")):
            found.append(f"a line of {name} is doubled or torn")
    steps = []
    for folder in checkpoint_folders(run):
        try:
            read_checkpoint(folder)
            steps.append(step_of(folder))
        except InputError as error:
            found.append(str(error))
    if saved_step > max(steps, default=-1):
        found.append(f"the checkpoint of step {saved_step} is gone")
    for path in (*run.glob("*.json"), *run.glob("*.pt")):
        try:
            load_tensors(path) if path.suffix == ".pt" else json.loads(path.read_text())
        except ValueError as error:
            found.append(f"{path.name}: {error}")
    return found


def newest(run: Path) -> int:
    folders = checkpoint_folders(run)
    return step_of(folders[-1]) if folders else -1


def in_child(work: Callable[[], None], log: Path) -> int:
    """The id of a process that does the work; forked, so that it needn't import anything."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        with log.open("a") as file:
            os.dup2(file.fileno(), 2)
        work()
        code = 0
    except Exception as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
    finally:
        os._exit(code)
