"""One run by many processes: who takes which rows, and how their gradients become one.

In: what torchrun puts into the environment. Out: `Processes`, through which a run shares its work;
`ALONE` where there is one, which does nothing and costs nothing.

Every process cuts the same global batch and takes its rows of it. Each divides by the weights of
the global batch, so gradients are summed, once a step, in one flat buffer. DistributedDataParallel
is not used: it averages over processes and needs a backward pass through its own forward in each.
Here a process may have no rows (one long row for two processes), the heads run outside the forward,
some have no gradient (no further horizons), and micro-batches and relevance make several passes.
For a model of 3 MB there is nothing to overlap: with one process, a step takes 0.996 of a plain
one's time this way and 1.015 that way (`benchmarks/distributed_cost.py`).
"""

import os
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from tinymemorylm.errors import InputError, RunError
from tinymemorylm.progress import mute

T = TypeVar("T")

LAUNCHED = {"RANK", "LOCAL_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT"}
"""What torchrun sets for each process."""
PATIENCE = timedelta(minutes=10)
"""Longest wait for the others in a step: above what one writes or draws between steps. A process
that dies is noticed at once; this is for a host that falls silent."""
PREPARATION = timedelta(days=1)
"""Longest wait for the first one to read and pack the data."""


class LostProcessError(RunError):
    """Another process of the run has ended, or its host can't be reached."""


@dataclass(frozen=True)
class Processes:
    """The processes that train one model, as one of them sees them.

    Whatever they exchange raises LostProcessError when one of them is gone.
    """

    rank: int = 0
    size: int = 1
    on_host: int = 1
    """How many of them this host has."""
    joined: bool = False
    preparing: Any = None
    """A second process group, of more patience."""

    @property
    def first(self) -> bool:
        """Whether this is the one that reads the sources and writes the run."""
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's part of n rows: contiguous, none twice, sizes at most one apart."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def from_first(self, work: Callable[[], T]) -> T:
        """What `work` returns in the first process, given to all. What it raises, all raise."""
        if not self.joined:
            return work()
        if not self.first:
            return self._received()
        try:
            result = work()
        except Exception as error:
            self._send(error if isinstance(error, InputError) else RunError(str(error)))
            raise
        self._send(result)
        return result

    def _send(self, value: object) -> None:
        with _others_needed():
            dist.broadcast_object_list([value], 0, self.preparing)

    def _received(self) -> Any:
        box: list[Any] = [None]
        with _others_needed():
            dist.broadcast_object_list(box, 0, self.preparing)
        if isinstance(box[0], InputError | RunError):
            box[0].said = True
            raise box[0]
        return box[0]

    def gather(self, value: T) -> list[T]:
        """Everyone's value, by rank."""
        if not self.joined:
            return [value]
        values: list[Any] = [None] * self.size
        with _others_needed():
            dist.all_gather_object(values, value)
        return values

    def sums(self, figures: dict[Any, float]) -> dict[Any, float]:
        """Each figure summed over the processes; all have the same keys in the same order."""
        if not self.joined:
            return figures
        values = torch.tensor(list(figures.values()), dtype=torch.float64)
        with _others_needed():
            dist.all_reduce(values)
        return dict(zip(figures, values.tolist(), strict=True))

    def any(self, flag: bool) -> bool:
        """Whether it is set in one of them."""
        return self.sums({"flag": flag})["flag"] > 0

    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Sum each parameter's gradient over the processes, in place.

        One that has none anywhere keeps none: the optimiser leaves it alone, as in one process.
        """
        if not self.joined:
            return
        there = torch.tensor([float(p.grad is not None) for p in parameters])
        parts = [p.new_zeros(p.numel()) if p.grad is None else p.grad.flatten() for p in parameters]
        buffer = torch.cat([there.to(parts[0].device), *parts])
        with _others_needed():
            dist.all_reduce(buffer)
        counts, *summed = buffer.split([len(parts), *(p.numel() for p in parameters)])
        for p, count, gradient in zip(parameters, counts.tolist(), summed, strict=True):
            p.grad = gradient.view_as(p) if count else None


ALONE = Processes()


@contextmanager
def _others_needed() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo has no error class of its own
        reason = re.sub(r"^\[\S+\] ", "", str(error).splitlines()[0]).split(". This is")[0]
        raise LostProcessError(
            f"another process of the run has ended or can't be reached ({reason}); the last "
            "checkpoint is kept: start all of them again with --resume"
        ) from error


@contextmanager
def joined(device: str | None) -> Iterator[Processes]:
    """All processes that torchrun started with this one; `ALONE` without torchrun.

    device: as `choose_device` takes it; each process has the GPU of its local rank. An error that
    several processes meet is marked as said in all but one. Raises InputError where there are more
    processes than GPUs, RunError if the others can't be reached.
    """
    if not os.environ.keys() >= LAUNCHED:
        yield ALONE
        return
    gpu = device != "cpu" and torch.cuda.is_available()
    if gpu:
        _take_gpu(int(os.environ["LOCAL_RANK"]))
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
        # torchrun keeps its store when it starts all again, addresses of the dead included.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)  # pyright: ignore
        backend = "cpu:gloo,cuda:nccl" if gpu else "gloo"
        dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
        preparing = dist.new_group(backend="gloo", timeout=PREPARATION)
    except RuntimeError as error:
        where = f"{os.environ['MASTER_ADDR']}:{os.environ['MASTER_PORT']}"
        raise RunError(
            f"the other processes can't be reached through {where}: {str(error).splitlines()[0]}"
        ) from error
    if rank:
        mute()
    try:
        yield Processes(rank, size, int(os.environ["LOCAL_WORLD_SIZE"]), True, preparing)
    except (InputError, RunError) as error:
        error.said = error.said or _said_before(store)
        raise
    finally:
        dist.destroy_process_group()


def _take_gpu(local_rank: int) -> None:
    n = torch.cuda.device_count()
    if local_rank >= n:
        raise InputError(
            f"process {local_rank + 1} of this host has no GPU: there are {n}; start at most {n} "
            "with --nproc-per-node, or give --device cpu"
        )
    torch.cuda.set_device(local_rank)


def _said_before(store: Any) -> bool:
    """Whether another process has met an error first: it says why, the others only follow."""
    with suppress(RuntimeError):
        store.set_timeout(timedelta(seconds=5))
        return store.add("said", 1) > 1
    return False
