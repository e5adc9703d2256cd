"""Where a run's figures go beside `metrics.jsonl`: TensorBoard, trackio.

In: the lines that go to `metrics.jsonl`, which stays the truth. Out: the same numbers in the sinks
asked for; one that fails is dropped with a warning, and the run goes on.
"""

import contextlib
import importlib
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, Protocol

from tinymemorylm.errors import InputError
from tinymemorylm.files import write_json
from tinymemorylm.progress import log
from tinymemorylm.training.run_files import JsonLines

SinkName = Literal["tensorboard", "trackio"]
TRACKIO_PROJECT = "tinymemorylm"


class Sink(Protocol):
    """Takes lines in the order of their steps."""

    def write(self, line: dict[str, Any]) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class TensorBoardSink:
    """Scalars `phase/name` in RUN/tensorboard: `tensorboard --logdir RUN`."""

    def __init__(self, run: Path, kept: Sequence[dict[str, Any]]) -> None:
        from torch.utils.tensorboard import SummaryWriter

        # What an interrupted run wrote beyond its checkpoint is hidden: it will be written again.
        purge = kept[-1]["step"] + 1 if kept else 0
        self._writer = SummaryWriter(str(run / "tensorboard"), purge_step=purge)

    def write(self, line: dict[str, Any]) -> None:
        for name, value in line.items():
            if name not in ("phase", "step"):
                self._writer.add_scalar(f"{line['phase']}/{name}", value, line["step"])

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class TrackioSink:
    """A run of the local trackio project `tinymemorylm`: `trackio show`.

    trackio can't take points back, so a resumed run is written anew from the lines kept.
    """

    def __init__(self, run: Path, kept: Sequence[dict[str, Any]]) -> None:
        import trackio

        note = run / "trackio.json"
        with contextlib.redirect_stdout(sys.stderr):  # stdout is for results
            if note.exists():
                before = json.loads(note.read_text())["id"]
                for old in trackio.Api().runs(TRACKIO_PROJECT):
                    if old.id == before:
                        old.delete()
            self._run = trackio.init(
                project=TRACKIO_PROJECT,
                name=run.name,
                resume="never",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        write_json(note, {"project": TRACKIO_PROJECT, "id": self._run.id})
        for line in kept:
            self.write(line)

    def write(self, line: dict[str, Any]) -> None:
        self._run.log({k: v for k, v in line.items() if k != "step"}, step=line["step"])

    def flush(self) -> None:
        """Nothing to do: what trackio has not stored when a run dies is written on resuming."""

    def close(self) -> None:
        import trackio

        with contextlib.redirect_stdout(sys.stderr):
            trackio.finish()


SINKS: dict[SinkName, Callable[[Path, Sequence[dict[str, Any]]], Sink]] = {
    "tensorboard": TensorBoardSink,
    "trackio": TrackioSink,
}


def check_sinks(names: Sequence[SinkName]) -> None:
    """Raises InputError, with what to install, for a sink whose package isn't there."""
    for name in names:
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise InputError(
                f"--track {name}: {error}; pip install 'tinymemorylm[track]'"
            ) from None


class TrackedLines(JsonLines):
    """`metrics.jsonl`, its lines passed on to sinks; none of their faults reaches the run."""

    def __init__(self, path: Path, length: int = 0, sinks: Sequence[SinkName] = ()) -> None:
        super().__init__(path, length)
        kept = [json.loads(line) for line in path.read_bytes().splitlines()] if sinks else []
        self._sinks: dict[SinkName, Sink] = {}
        for name in dict.fromkeys(sinks):
            try:
                self._sinks[name] = SINKS[name](path.parent, kept)
            except Exception as error:
                _warn(name, error)

    def append(self, value: dict[str, Any]) -> None:
        super().append(value)
        self._each(lambda sink: sink.write(value))

    def sync(self) -> int:
        self._each(lambda sink: sink.flush())
        return super().sync()

    def close(self) -> None:
        super().close()
        self._each(lambda sink: sink.close())
        self._sinks.clear()

    def _each(self, act: Callable[[Sink], None]) -> None:
        for name, sink in list(self._sinks.items()):
            try:
                act(sink)
            except Exception as error:
                del self._sinks[name]
                _warn(name, error)


def _warn(name: str, error: Exception) -> None:
    reason = " ".join(str(error).split()) or type(error).__name__
    log(f"{name} failed ({reason}); the run goes on without it, metrics.jsonl is complete")
