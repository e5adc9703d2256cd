"""What faults cost a run: kills at any instant, a failing disk, damaged files. Nothing, it says.

Run: python benchmarks/faults.py > benchmarks/results/faults.json (needs Linux; --tiny: a minute's)

Every faulty run is resumed until it is finished, and then held against one that nothing happened
to: weights, optimiser, metrics but for times, samples, all to the bit. What differs is a loss.
"""

import argparse
import dataclasses
import errno
import json
import os
import platform
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from disk_faults import LIMITS, disk, limited
from run_checks import broken, differences, in_child, newest
from tinymemorylm.config import Recipe, load_recipe
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.training import loop
from tinymemorylm.training.checkpoint import checkpoint_folders
from tinymemorylm.training.phases import train


def tiny(recipe: Recipe) -> Recipe:
    """The recipe cut to seconds, with a checkpoint every other step."""
    short = {"batch_size": 4, "validate_every": 2, "checkpoint_every": 2, "sample_every": 4}
    pretrain = dataclasses.replace(recipe.pretrain, tokens=256 * 8, sequence_length=64, **short)
    sft = dataclasses.replace(recipe.sft, tokens=512 * 6, **short)
    data = {"data": ("storyworld:1:40KB",), "chat_data": ("storyworld:2:20KB",)}
    return dataclasses.replace(recipe, **data, pretrain=pretrain, sft=sft)


# ---------------------------------------------------------------- kills


def half_written(run: Path) -> bool:
    return any((run / "checkpoints").glob(".step-*.tmp"))


def kill_at_an_instant(child: int, run: Path, rng: random.Random, longest: float) -> str | None:
    """Where it was killed; None if it finished before. Every third waits for a checkpoint."""
    at_checkpoint = rng.random() < 1 / 3
    began, wait = time.monotonic(), rng.uniform(0, longest)
    while time.monotonic() - began < (20 * longest if at_checkpoint else wait):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            if status:
                raise SystemExit((run.parent / "log").read_text())
            return None
        if at_checkpoint and half_written(run):
            time.sleep(rng.uniform(0, 0.01))
            break
        time.sleep(0.0005)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    if half_written(run):
        return "writing a checkpoint"
    if not (run / "prepared.json").exists():
        return "preparing"
    return "tuning" if (run / "pretrain.pt").exists() else "pretraining"


def kills(recipe: Recipe, folder: Path, n: int, share: float, seed: int):
    """Kill runs `n` times, each within a share of a run's time; finish the last one too."""
    reference, log = folder / "reference", folder / "log"
    began = time.monotonic()
    wait_for(in_child(lambda: train(recipe, reference, device="cpu"), log), folder)
    longest = (time.monotonic() - began) * share
    rng, where, runs, losses = random.Random(seed), Counter[str](), 0, list[str]()
    while sum(where.values()) < n:
        run, saved, runs = folder / f"killed-{runs}", -1, runs + 1
        while True:
            work = partial(train, recipe, run, resume=True, device="cpu")
            child = in_child(work, log)
            if sum(where.values()) == n:
                wait_for(child, folder)
                break
            at = kill_at_an_instant(child, run, rng, longest)
            if at is None:
                break
            where[at] += 1
            losses += [f"{run.name}, killed {at}: {loss}" for loss in broken(run, saved)]
            saved = newest(run)
        losses += [f"{run.name}: {loss} differs" for loss in differences(run, reference)]
        shutil.rmtree(run)
        print(f"{sum(where.values())} kills, {len(losses)} losses", file=sys.stderr, flush=True)
    return {"kills": n, "runs": runs, "while": dict(where), "losses": losses}


# ---------------------------------------------------------------- damaged files


def damage(path: Path, rng: random.Random) -> str:
    """Cut the file short, or flip one of its bits."""
    content = bytearray(path.read_bytes())
    if rng.random() < 0.5:
        del content[rng.randrange(len(content)) :]
        how = "cut"
    else:
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        how = "flipped"
    path.write_bytes(content)
    return f"{path.name} {how}"


def stopped_at(recipe: Recipe, run: Path, step: int) -> None:
    """Leave in `run` what a kill at `step` would."""

    class Stop(BaseException):
        pass

    def steps(*args: Any, **kwargs: Any) -> Any:
        nonlocal taken
        taken += 1
        if taken > step:
            raise Stop
        return original(*args, **kwargs)

    taken, original = 0, loop.train_step
    with mock.patch.object(loop, "train_step", steps):
        try:
            train(recipe, run, device="cpu")
        except Stop:
            return
    raise RuntimeError(f"the run ended before step {step}")


def damaged_checkpoints(recipe: Recipe, stopped: Path, folder: Path, reference: Path, n: int):
    """The newest checkpoint damaged, or the newest two: the one before them serves."""
    rng, losses, how = random.Random(1), list[str](), Counter[str]()
    for i in range(n):
        run = folder / "damaged"
        shutil.copytree(stopped, run)
        for checkpoint in checkpoint_folders(run)[-1 - i % 2 :]:
            how[damage(rng.choice([*checkpoint.iterdir()]), rng)] += 1
        train(recipe, run, resume=True, device="cpu")
        losses += [f"{loss} differs" for loss in differences(run, reference)]
        shutil.rmtree(run)
    return {"runs": n, "damage": dict(how), "losses": losses}


def damaged_shards(recipe: Recipe, stopped: Path, folder: Path, reference: Path, n: int):
    """A damaged shard is refused; packed again as the message says, the run goes on."""
    rng, losses, how = random.Random(2), list[str](), Counter[str]()
    for _ in range(n):
        run = folder / "damaged"
        shutil.copytree(stopped, run)
        # of the phase still to be run: pretraining is behind
        shard = rng.choice(sorted((run / "shards" / "sft").iterdir()))
        how[damage(shard, rng)] += 1
        try:
            train(recipe, run, resume=True, device="cpu")
            losses.append(f"a damaged {shard.name} was trained on")
        except InputError as error:
            if "prepared.json" not in str(error) or broken(run):
                losses.append(f"not one clear line: {error}")
            (run / "prepared.json").unlink()
            train(recipe, run, resume=True, device="cpu")
            losses += [f"{loss} differs" for loss in differences(run, reference)]
        shutil.rmtree(run)
    return {"runs": n, "damage": dict(how), "losses": losses}


def not_finite(recipe: Recipe, stopped: Path, folder: Path, reference: Path):
    """A batch whose loss is no number: one line, nothing overwritten, nothing lost."""
    run = folder / "nan"
    shutil.copytree(stopped, run)
    before, losses = newest(run), list[str]()

    def poisoned(model: Any, optimizer: Any, batch: Any, relevance: Any, phase: Any, *args, **more):
        phase = dataclasses.replace(phase, boost_anneal=None)
        object.__setattr__(phase, "word_boost", float("nan"))
        return original(model, optimizer, batch, relevance, phase, *args, **more)

    original = loop.train_step
    with mock.patch.object(loop, "train_step", poisoned):
        try:
            train(recipe, run, resume=True, device="cpu")
            losses.append("it was trained on")
        except RunError as error:
            if "not finite" not in str(error) or "\n" in str(error):
                losses.append(f"not one clear line: {error}")
    losses += broken(run, before)
    if newest(run) != before:
        losses.append("a checkpoint was made of it")
    train(recipe, run, resume=True, device="cpu")
    return {"runs": 1, "losses": losses + [f"{d} differs" for d in differences(run, reference)]}


# ---------------------------------------------------------------- all of it


KINDS = ("kills", "limits", "disk", "damage")
DISK_FAULTS = [
    *[("write", 7, errno.ENOSPC), ("write", 31, errno.EIO)],
    *[("fsync", 11, errno.EIO), ("fsync", 41, errno.ENOSPC)],
    *[("rename", 7, errno.EROFS), ("rename", 23, errno.ENOSPC)],
]


def wait_for(child: int, folder: Path) -> None:
    """Raises SystemExit, with what it said, for a child that failed."""
    if os.waitpid(child, 0)[1]:
        raise SystemExit((folder / "log").read_text())


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--kills", type=int, default=200)
    options.add_argument("--damages", type=int, default=20)
    options.add_argument("--tiny", action="store_true", help="runs of seconds, not recipe smoke")
    options.add_argument("--only", nargs="*", choices=KINDS, default=KINDS)
    options.add_argument("--seed", type=int, default=0)
    given = options.parse_args()
    began = time.monotonic()
    torch.set_num_threads(1)  # a fork has no other threads
    smoke = load_recipe(Path("smoke"))
    small = tiny(smoke)
    report: dict[str, Any] = {"hardware": f"{platform.machine()}, 1 thread"}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        # Kills and limits fork, which a process that has computed must not: they come first.
        if "kills" in given.only:
            report["recipe"] = "tiny" if given.tiny else "smoke"
            recipe, share = (small, 0.5) if given.tiny else (smoke, 0.25)
            report["killed"] = kills(recipe, folder, given.kills, share, given.seed)
        reference, stopped = folder / "tiny", folder / "stopped"
        wait_for(in_child(lambda: train(small, reference, device="cpu"), folder / "log"), folder)
        wait_for(in_child(lambda: stopped_at(small, stopped, 13), folder / "log"), folder)
        if "limits" in given.only:
            report["limits"] = [limited(small, stopped, folder, reference, w) for w in LIMITS]
        if "disk" in given.only:
            report["disk"] = [
                disk(small, folder / f"{call}-{every}", reference, call, every, code)
                for call, every, code in DISK_FAULTS
            ]
        if "damage" in given.only:
            n = given.damages
            report["checkpoints"] = damaged_checkpoints(small, stopped, folder, reference, n)
            report["shards"] = damaged_shards(small, stopped, folder, reference, n // 2)
            report["not_finite"] = not_finite(small, stopped, folder, reference)
    report["seconds"] = round(time.monotonic() - began)
    report["losses"] = sum(
        len(part["losses"])
        for value in report.values()
        for part in (value if isinstance(value, list) else [value])
        if isinstance(part, dict)
    )
    print(json.dumps(report, indent=1))
    return 1 if report["losses"] else 0


if __name__ == "__main__":
    sys.exit(main())
