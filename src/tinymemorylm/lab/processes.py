"""Runs one after another in this process, or several side by side, each in its own.

In: runs, what prepares one and what performs it. Out: all of them performed; a signal stops them
after their next step, saved.
"""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess

import torch

from tinymemorylm.errors import InputError
from tinymemorylm.lab.run import LabRun, note_failure
from tinymemorylm.progress import log
from tinymemorylm.training.loop import InterruptedRunError, stop_signals

INTERRUPTED, BAD_INPUT = 130, 2
STOPPED = "stopped; the same command goes on"


def run_each(
    runs: Sequence[LabRun],
    *,
    prepare: Callable[[LabRun], None],
    work: Callable[[LabRun], None],
    after: Callable[[LabRun], object],
    jobs: int,
    threads: int,
) -> None:
    """Prepare a run here, work on it, and call `after`; `jobs` runs at a time.

    work must be importable by name. Raises InterruptedRunError after a signal, and InputError if a
    run's input is bad; a run that fails otherwise is `work`'s to note.
    """
    if jobs == 1:
        torch.set_num_threads(threads)
        for run in runs:
            prepare(run)
            work(run)
            after(run)
        return
    waiting, active = list(runs), dict[BaseProcess, LabRun]()
    stop: Exception | None = None
    spawn = multiprocessing.get_context("spawn")
    try:
        with stop_signals() as stopped:
            while active or (waiting and not stop):
                if stopped() and stop is None:
                    stop = InterruptedRunError(STOPPED)
                    _stop(active)
                while waiting and len(active) < jobs and not stop and not stopped():
                    run = waiting.pop(0)
                    prepare(run)
                    process = spawn.Process(target=_in_process, args=(work, run, threads))
                    process.start()
                    active[process] = run
                wait([process.sentinel for process in active], timeout=0.5)
                for process in [p for p in active if p.exitcode is not None]:
                    run = active.pop(process)
                    if process.exitcode == INTERRUPTED:
                        stop = stop or InterruptedRunError(STOPPED)
                    elif process.exitcode == BAD_INPUT:
                        stop = InputError(f"{run.folder}: stopped by bad input, see above")
                    elif process.exitcode and not stop:
                        note_failure(run, f"its process ended with code {process.exitcode}")
                    after(run)
    finally:
        _stop(active)
    if stop is not None:
        raise stop


def _stop(processes: Iterable[BaseProcess]) -> None:
    """A run takes SIGTERM as a wish to save and stop."""
    for process in processes:
        process.terminate()


def _in_process(work: Callable[[LabRun], None], run: LabRun, threads: int) -> None:
    torch.set_num_threads(threads)
    try:
        work(run)
    except InputError as error:
        log(f"{run.folder}: {error}")
        sys.exit(BAD_INPUT)
    except (InterruptedRunError, KeyboardInterrupt):
        sys.exit(INTERRUPTED)
