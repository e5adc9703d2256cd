"""Faults of every kind lose nothing: the harness of benchmarks/faults.py, a little of it here."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import faults
from disk_faults import disk
from run_checks import broken
from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.training.checkpoint import checkpoint_folders
from tinymemorylm.training.optimizer import Optimizer
from tinymemorylm.training.phases import train

HARNESS = Path(faults.__file__)


def harness(*arguments: str) -> dict:
    """Its report, from a process of its own: it forks, and must not have computed before."""
    path = os.pathsep.join([str(HARNESS.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(HARNESS), *arguments],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


@pytest.fixture(scope="module")
def stopped(tiny_recipe: Recipe, tmp_path_factory) -> Path:
    """A run killed in SFT."""
    run = tmp_path_factory.mktemp("stopped") / "run"
    faults.stopped_at(tiny_recipe, run, 9)
    assert [folder.name for folder in checkpoint_folders(run)][-1] == "step-000008"
    return run


def test_ten_kills_at_random_instants_and_limits_of_the_system_lose_nothing():
    report = harness("--tiny", "--kills", "10", "--only", "kills", "limits")
    assert report["killed"]["kills"] == 10 and report["killed"]["losses"] == []
    assert len(report["limits"]) == 3 and report["losses"] == 0, report["limits"]


@pytest.mark.slow
def test_two_hundred_kills_and_all_other_faults_lose_nothing():
    report = harness()
    assert report["killed"]["kills"] == 200 and report["recipe"] == "smoke"
    assert sum(part["faults"] for part in report["disk"]) > 50
    assert report["losses"] == 0, report


@pytest.mark.parametrize(
    ("call", "every", "code"),
    [("write", 19, errno.ENOSPC), ("fsync", 37, errno.EIO), ("rename", 13, errno.EROFS)],
)
def test_calls_the_disk_refuses_are_one_line_each_and_lose_nothing(
    call: str, every: int, code: int, finished_run: Path, tiny_recipe: Recipe, tmp_path: Path
):
    report = disk(tiny_recipe, tmp_path / "run", finished_run, call, every, code)
    assert report["losses"] == [] and report["faults"] >= 2, report


def test_damaged_checkpoints_are_passed_over_and_lose_nothing(
    stopped: Path, finished_run: Path, tiny_recipe: Recipe, tmp_path: Path, capsys
):
    report = faults.damaged_checkpoints(tiny_recipe, stopped, tmp_path, finished_run, 2)
    assert report["losses"] == []
    assert capsys.readouterr().err.count("is damaged; using an older checkpoint") == 3


def test_damaged_shards_are_refused_and_packed_again(
    stopped: Path, finished_run: Path, tiny_recipe: Recipe, tmp_path: Path
):
    report = faults.damaged_shards(tiny_recipe, stopped, tmp_path, finished_run, 1)
    assert report["losses"] == []


def test_a_batch_that_is_not_finite_overwrites_nothing(
    stopped: Path, finished_run: Path, tiny_recipe: Recipe, tmp_path: Path
):
    report = faults.not_finite(tiny_recipe, stopped, tmp_path, finished_run)
    assert report["losses"] == []


def test_weights_that_are_not_finite_make_no_checkpoint(
    stopped: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    """The gradient was finite, the step that was made of it is not."""
    run = tmp_path / "run"
    shutil.copytree(stopped, run)

    def spoil(optimizer: Optimizer) -> None:
        original(optimizer)
        optimizer.param_groups[0]["params"][0].data[0] = float("nan")

    original = Optimizer.step
    monkeypatch.setattr(Optimizer, "step", spoil)
    with pytest.raises(RunError, match=r"before step 9: .* not finite; the last good checkpoint"):
        train(tiny_recipe, run, resume=True, device="cpu")
    assert checkpoint_folders(run)[-1].name == "step-000008" and broken(run, 8) == []
    assert not (run / "model.pt").exists()


def test_a_run_whose_checkpoints_are_all_damaged_is_not_begun_again_unasked(
    stopped: Path, tiny_recipe: Recipe, tmp_path: Path
):
    run = tmp_path / "run"
    run.mkdir()
    for file in ("metrics.jsonl", "recipe.json"):
        (run / file).write_bytes((stopped / file).read_bytes())
    for folder in checkpoint_folders(stopped):
        (run / "checkpoints" / folder.name).mkdir(parents=True)
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match=r"every checkpoint of .* is damaged; delete"):
        train(tiny_recipe, run, resume=True, device="cpu")
    assert (run / "metrics.jsonl").read_bytes() == before


def test_lines_lost_from_a_checkpoints_metrics_are_an_error(
    stopped: Path, tiny_recipe: Recipe, tmp_path: Path
):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    (run / "metrics.jsonl").write_text("")
    with pytest.raises(InputError, match=r"metrics.jsonl holds 0 bytes, fewer than"):
        train(tiny_recipe, run, resume=True, device="cpu")


def test_the_checks_see_what_is_torn_doubled_or_gone(stopped: Path, tmp_path: Path):
    run = tmp_path / "run"
    shutil.copytree(stopped, run)
    assert broken(run, 8) == []
    assert broken(run, 9) == ["the checkpoint of step 9 is gone"]
    metrics = (run / "metrics.jsonl").read_bytes()
    for content in (metrics[:-1], metrics[:-9], metrics + metrics.splitlines(keepends=True)[0]):
        (run / "metrics.jsonl").write_bytes(content)
        assert len(broken(run)) >= 1
