"""TensorBoard and trackio show the numbers of metrics.jsonl, and never harm a run."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError
from tinymemorylm.training import sinks
from tinymemorylm.training.phases import train
from tinymemorylm.training.sinks import TrackedLines


def line(step: int) -> dict:
    return {"phase": "pretrain", "step": step, "loss": 1 / step, "lr": 1e-3}


def scalars(run: Path, tag: str) -> dict[int, float]:
    """Step to value as TensorBoard itself reads them; a step written twice fails."""
    reading = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = reading.EventAccumulator(str(run / "tensorboard"), {"scalars": 0})
    events.Reload()
    points = events.Scalars(tag)
    assert len({p.step for p in points}) == len(points)
    return {p.step: p.value for p in points}


@pytest.mark.filterwarnings("default")
def test_tensorboard_reads_back_the_numbers_of_metrics(tiny_recipe: Recipe, tmp_path: Path):
    pytest.importorskip("tensorboard", reason="the track extra is not installed")
    recipe = dataclasses.replace(
        tiny_recipe, sft=dataclasses.replace(tiny_recipe.sft, tokens=0), sample_prompts=("It",)
    )
    train(recipe, tmp_path / "run", device="cpu", track=("tensorboard",))
    metrics = [json.loads(m) for m in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    for name in ("loss", "lr", "tokens_seen", "val_bits_per_byte"):
        wanted = {m["step"]: m[name] for m in metrics if name in m}
        assert scalars(tmp_path / "run", f"pretrain/{name}") == pytest.approx(wanted)


@pytest.mark.filterwarnings("default")
def test_tensorboard_shows_no_point_twice_after_resuming(tmp_path: Path):
    pytest.importorskip("tensorboard", reason="the track extra is not installed")
    lines = TrackedLines(tmp_path / "metrics.jsonl", 0, ["tensorboard"])
    for step in range(1, 5):
        lines.append(line(step))
    kept = lines.sync()
    for step in range(5, 8):  # past the last checkpoint when the run is killed
        lines.append(line(step) | {"loss": 99.0})
    lines.close()
    lines = TrackedLines(tmp_path / "metrics.jsonl", kept, ["tensorboard"])
    for step in range(5, 10):
        lines.append(line(step))
    lines.close()
    wanted = {step: 1 / step for step in range(1, 10)}
    assert scalars(tmp_path, "pretrain/loss") == pytest.approx(wanted)


TRACKIO = """
import socket, sys
def no_network(*arguments): raise OSError("a test reached for the network")
socket.socket.connect = socket.getaddrinfo = no_network
from pathlib import Path
from tinymemorylm.training.sinks import TrackedLines
folder = Path(sys.argv[1])
def line(step): return {"phase": "pretrain", "step": step, "loss": 1 / step}
lines = TrackedLines(folder / "metrics.jsonl", 0, ["trackio"])
for step in range(1, 5): lines.append(line(step))
kept = lines.sync()
for step in range(5, 8): lines.append(line(step) | {"loss": 99.0})
lines.close()
lines = TrackedLines(folder / "metrics.jsonl", kept, ["trackio"])
for step in range(5, 10): lines.append(line(step))
lines.close()
import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = list(trackio.Api().runs("tinymemorylm"))
logs = SQLiteStorage.get_logs("tinymemorylm", run_id=runs[0].id)
print(len(runs), [(log["step"], log["loss"]) for log in logs])
"""


def test_trackio_keeps_the_numbers_in_a_local_folder_also_after_resuming(tmp_path: Path):
    pytest.importorskip("trackio", reason="the track extra is not installed")
    done = subprocess.run(
        [sys.executable, "-c", TRACKIO, str(tmp_path)],
        capture_output=True,
        text=True,
        env={**os.environ, "TRACKIO_DIR": str(tmp_path / "trackio")},
    )
    assert done.stdout == f"1 {[(step, 1 / step) for step in range(1, 10)]}\n", done.stderr
    assert "failed" not in done.stderr
    assert list((tmp_path / "trackio").glob("*.db"))


def test_a_missing_package_is_named_before_anything_begins(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    def without(name: str, *rest):
        raise ImportError(f"No module named {name!r}")

    monkeypatch.setattr(sinks.importlib, "import_module", without)
    with pytest.raises(InputError, match=r"--track trackio: No module .*tinymemorylm\[track\]"):
        train(tiny_recipe, tmp_path / "run", device="cpu", track=("trackio",))
    assert not (tmp_path / "run").exists()


class Failing:
    def __init__(self, run: Path, kept: list) -> None:
        self.written = 0

    def write(self, line: dict) -> None:
        self.written += 1
        if self.written == 3:
            raise OSError("disk\nfull")

    def flush(self) -> None: ...

    def close(self) -> None: ...


def test_a_failing_sink_warns_once_and_the_run_goes_on(tmp_path: Path, monkeypatch, capsys):
    monkeypatch.setitem(sinks.SINKS, "tensorboard", Failing)
    lines = TrackedLines(tmp_path / "metrics.jsonl", 0, ["tensorboard"])
    for step in range(1, 7):
        lines.append(line(step))
    lines.close()
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 6
    assert capsys.readouterr().err == (
        "tensorboard failed (disk full); the run goes on without it, metrics.jsonl is complete\n"
    )


def test_a_sink_that_cannot_open_is_left_out(tmp_path: Path, monkeypatch, capsys):
    def refuse(run: Path, kept: list):
        raise PermissionError("not yours")

    monkeypatch.setitem(sinks.SINKS, "trackio", refuse)
    lines = TrackedLines(tmp_path / "metrics.jsonl", 0, ["trackio"])
    lines.append(line(1))
    lines.close()
    assert "trackio failed (not yours)" in capsys.readouterr().err
