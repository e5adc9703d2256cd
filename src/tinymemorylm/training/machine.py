"""What a run's bits depend on beside its recipe and data: the machine and how it is used.

In: a device, and what an earlier part of the run was made on. Out: the same again where it can
be, and a warning where it can't; the state of the process's random generators.
"""

import dataclasses
import os
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from tinymemorylm.progress import log
from tinymemorylm.training.distributed import ALONE, Processes

MEMORY_SHARE = 0.4
"""Share of the free memory a step's activations may take."""
MAX_MICRO_BATCH_BYTES = 2 << 30
"""Enough for a CPU at any free memory: its micro-batches need not be larger."""


@dataclass(frozen=True)
class Machine:
    """Equal machines add the same numbers in the same order."""

    device: str
    threads: int
    activation_bytes: int
    """What a micro-batch's activations may take: the rows of every micro-batch follow from it."""
    instructions: str
    """The widest vector instructions of the CPU."""
    torch: str
    processes: int = 1


def activation_budget(device: torch.device) -> int:
    """Bytes of activations a micro-batch may take on `device`."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0] * MEMORY_SHARE)
    if device.type == "mps" or not hasattr(os, "sysconf"):
        return MAX_MICRO_BATCH_BYTES
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min(MAX_MICRO_BATCH_BYTES, int(free * MEMORY_SHARE))


def settle(
    device: torch.device,
    threads: int | None = None,
    before: dict[str, Any] | None = None,
    processes: Processes = ALONE,
) -> Machine:
    """Use the threads and the micro-batch of the run's earlier part, or choose them now.

    threads: how many to use whatever they were before; OMP_NUM_THREADS in the environment counts
    as such a wish. The micro-batch is one that all processes have room for. Says so where what
    follows can't have the bits it would have had, and where the processes are unlike.
    """
    same_device = before is not None and before["device"] == device.type
    asked = threads or (torch.get_num_threads() if os.environ.get("OMP_NUM_THREADS") else None)
    if asked is None and before is not None:
        asked = min(before["threads"], os.cpu_count() or 1)
    # Also where it changes nothing: from here on MKL takes that many, never fewer.
    torch.set_num_threads(asked or torch.get_num_threads())
    if before and same_device:
        budget = before["activation_bytes"]
    else:
        budget = activation_budget(device)
        if device.type != "cuda":
            budget //= processes.on_host
    machine = Machine(
        device.type,
        torch.get_num_threads(),
        budget,
        torch.backends.cpu.get_cpu_capability(),
        str(torch.__version__),
        processes.size,
    )
    machines = processes.gather(machine)
    budget = min(each.activation_bytes for each in machines)
    machine = dataclasses.replace(machine, activation_bytes=budget)
    values = dataclasses.asdict(machine)
    earlier = values if before is None else {"processes": 1} | before
    for name, now in values.items():
        if name == "activation_bytes":
            continue
        if earlier[name] != now:
            log(f"{name} {now}, before {earlier[name]}: the run goes on, but no longer exactly")
        if unlike := [str(each) for m in machines if (each := getattr(m, name)) != now]:
            log(f"{name} {now} here, {unlike[0]} in another process: their weights may drift apart")
    return machine


def random_state(device: torch.device) -> dict[str, Any]:
    """The process's random generators. None of ours is one of them: ours begin anew each step."""
    numpy = np.random.get_state(legacy=False)
    numpy["state"]["key"] = numpy["state"]["key"].tolist()
    state = {"torch": torch.get_rng_state(), "numpy": numpy, "python": random.getstate()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: dict[str, Any], device: torch.device) -> None:
    """Put back what `random_state` returned."""
    torch.set_rng_state(state["torch"])
    np.random.set_state(state["numpy"])
    random.setstate(state["python"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
