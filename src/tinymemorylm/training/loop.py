"""The training loop of one phase: steps, figures, validation, samples, checkpoints.

In: a model, an optimiser and batches by step. Out: trained weights in place, and a run
directory that can be resumed from its last checkpoint.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymemorylm.batches import Batch
from tinymemorylm.config import Phase
from tinymemorylm.errors import RunError
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.progress import Progress
from tinymemorylm.training.checkpoint import checkpoint_folders, save_checkpoint
from tinymemorylm.training.distributed import ALONE, LostProcessError, Processes
from tinymemorylm.training.machine import random_state
from tinymemorylm.training.optimizer import Optimizer, learning_rate
from tinymemorylm.training.run_files import JsonLines
from tinymemorylm.training.schedule import Schedule, Stage, layers_of_step
from tinymemorylm.training.step import TokenTable, train_step, validation_figures


class InterruptedRunError(RunError):
    """SIGINT or SIGTERM came; the run is saved and can be resumed."""


@contextmanager
def stop_signals(insistent: bool = False) -> Iterator[Callable[[], bool]]:
    """Within: the first SIGINT or SIGTERM is only remembered; a second acts as usual.

    insistent: nor does a second. torchrun passes Ctrl-C on to processes that have had it from the
    terminal, and kills for good those that go on for 30 s.
    """
    stopped = False

    def remember(number: int, _frame: object) -> None:
        nonlocal stopped
        stopped = True
        if not insistent:
            signal.signal(number, before[number])

    numbers: tuple[int, ...] = (signal.SIGINT, signal.SIGTERM)
    before: dict[int, Any] = {number: signal.getsignal(number) for number in numbers}
    for number in before:
        signal.signal(number, remember)
    try:
        yield lambda: stopped
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@dataclass(frozen=True)
class PhaseData:
    """Where a phase's batches come from; all are functions of position alone."""

    batch: Callable[[Stage, int], Batch]
    """(stage, first row) -> the rows of one step."""
    relevance: Callable[[int], Batch | None]
    """Step of the phase -> its groups, or None when the objective is off."""
    validation: list[Batch]
    validation_seq: int


@dataclass
class Position:
    """How far the run is. step counts over both phases, phase_step within this one."""

    phase: str
    step: int = 0
    phase_step: int = 0
    tokens_seen: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class Record:
    """What is written as the run goes, by one process of it."""

    run: Path
    metrics: JsonLines
    samples: JsonLines
    draw: Callable[[Position], Iterator[dict[str, Any]]]
    """The lines of `samples.jsonl` at a position."""
    about: dict[str, Any]
    """What checkpoints say of the run beside the state."""

    def sample(self, position: Position) -> None:
        for line in self.draw(position):
            self.samples.append(line)

    def save(
        self,
        position: Position,
        model: Transformer,
        optimizer: Optimizer,
        val_bits_per_byte: float | None = None,
    ) -> None:
        state = {
            "position": vars(position).copy(),
            "model": model.state_dict(),
            "optimizer": optimizer.state_dict(),
            "random": random_state(model.embedding.weight.device),
            "metrics_bytes": self.metrics.sync(),
            "samples_bytes": self.samples.sync(),
            **self.about,
        }
        save_checkpoint(
            self.run,
            position.step,
            state,
            phase=position.phase,
            val_bits_per_byte=val_bits_per_byte,
        )


def run_phase(
    model: Transformer,
    optimizer: Optimizer,
    phase: Phase,
    data: PhaseData,
    table: TokenTable,
    position: Position,
    record: Record | None,
    memory_bytes: int,
    processes: Processes = ALONE,
) -> None:
    """Train from `position` to the phase's end.

    record: None in a process that writes nothing. Raises InterruptedRunError after a signal to any
    process, RunError if the loss is not finite or another process is gone; the last checkpoint is
    there to resume from.
    """
    schedule = Schedule(phase)
    if record and position.step == 0 and not checkpoint_folders(record.run):
        record.save(position, model, optimizer)  # so that any later fault can go back to it
    with (
        stop_signals(insistent=processes.joined) as stopped,
        Progress(position.phase, schedule.n_steps) as progress,
    ):
        for step in range(position.phase_step, schedule.n_steps):
            began = time.perf_counter()
            stage, first_row = schedule.stage(step)
            rate = learning_rate(phase, step, schedule.n_steps)
            try:
                figures = train_step(
                    model,
                    optimizer,
                    data.batch(stage, first_row),
                    data.relevance(step),
                    phase,
                    table,
                    seq=stage.seq,
                    step=step,
                    progress=step / max(1, schedule.n_steps - 1),
                    n_layers=layers_of_step(phase, model.config, step, schedule.n_steps),
                    learning_rate=rate,
                    memory_bytes=memory_bytes,
                    processes=processes,
                )
            except LostProcessError:
                raise
            except RunError as error:
                raise RunError(
                    f"stopped before step {position.step + 1}: {error}; the last good checkpoint "
                    "is kept: look at the data, or lower the learning rate and go on with "
                    "--resume --allow-changed"
                ) from None
            seconds = time.perf_counter() - began
            position.step += 1
            position.phase_step = step + 1
            position.tokens_seen += stage.tokens_per_step
            position.seconds += seconds
            line = {
                "phase": position.phase,
                "step": position.step,
                "tokens_seen": position.tokens_seen,
                "loss": round(figures.loss, 6),
                "nll": round(figures.nll, 6),
                "bits_per_byte": round(figures.bits_per_byte, 6),
                "lr": rate,
                "grad_norm": round(figures.grad_norm, 6),
                "tokens_per_second": round(stage.tokens_per_step / seconds, 1),
                "seconds": round(position.seconds, 3),
            }
            line |= {f"nll_ahead_{k}": round(v, 6) for k, v in figures.horizon_nll.items()}
            if figures.relevance is not None:
                line["relevance"] = round(figures.relevance, 6)
            last = step + 1 == schedule.n_steps
            if last or (step + 1) % phase.validate_every == 0:
                _, value = validation_figures(
                    model, data.validation, data.validation_seq, table, processes
                )
                line["val_bits_per_byte"] = round(value, 6)
            if record:
                record.metrics.append(line)
            progress.update(
                step + 1,
                f"step {step + 1:,}/{schedule.n_steps:,}  loss {figures.loss:.3f}  "
                f"{figures.bits_per_byte:.3f} bits/byte  {line['tokens_per_second']:,.0f} tokens/s",
            )
            stopping = processes.any(stopped())  # all at the same step
            if record and (last or stopping or (step + 1) % phase.sample_every == 0):
                record.sample(position)
            if record and (last or stopping or (step + 1) % phase.checkpoint_every == 0):
                record.save(position, model, optimizer, line.get("val_bits_per_byte"))
            if stopping or (last and processes.any(stopped())):  # it may have come meanwhile
                raise InterruptedRunError(f"stopped at step {position.step}; go on with --resume")
