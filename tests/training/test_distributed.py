"""Many processes train what one would; one that dies ends the run, and it can be gone on with."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import shared_steps
import torch
from shared_steps import CASES, take, validate

import two_hosts
from run_checks import differences, lines, newest
from tinymemorylm.config import Recipe, load_recipe
from tinymemorylm.tensor_files import load_tensors
from tinymemorylm.training.changes import flat, written
from tinymemorylm.training.checkpoint import checkpoint_folders, read_checkpoint
from tinymemorylm.training.distributed import ALONE, Processes
from tinymemorylm.training.phases import train

Run = subprocess.CompletedProcess[str]


def torchrun(n: int, *arguments: str) -> list[str]:
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    return [*start, "--nproc-per-node", str(n), *arguments]


def said(done: Run) -> list[str]:
    """The lines that are ours, not torchrun's."""
    return [line for line in done.stderr.splitlines() if line.startswith("tmlm:")]


def launched(command: list[str]) -> Run:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=170)


# ---------------------------------------------------------------- single steps


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def shared(request: pytest.FixtureRequest, tmp_path_factory) -> list[dict[str, Any]]:
    """By rank, what 2 and 4 processes come to in each case."""
    folder = tmp_path_factory.mktemp("steps")
    done = launched(torchrun(request.param, shared_steps.__file__, str(folder)))
    assert done.returncode == 0, done.stderr
    return [torch.load(folder / f"{rank}.pt") for rank in range(request.param)]


@cache
def alone(name: str) -> dict[str, Any]:
    return take(CASES[name])


@pytest.mark.parametrize("name", CASES)
def test_loss_gradients_and_weights_are_those_of_one_process(
    name: str, shared: list[dict[str, Any]]
):
    wanted = alone(name)
    for got in (process[name] for process in shared):
        for ours, figures in zip(got["figures"], wanted["figures"], strict=True):
            assert ours == pytest.approx(figures, rel=1e-5)
        for key, gradient in wanted["gradients"].items():
            if gradient is None:
                assert got["gradients"][key] is None
            else:
                torch.testing.assert_close(got["gradients"][key], gradient, rtol=1e-3, atol=1e-6)
        for key, weight in wanted["weights"].items():
            torch.testing.assert_close(got["weights"][key], weight, rtol=1e-4, atol=1e-5)
            assert torch.equal(got["weights"][key], shared[0][name]["weights"][key])


@pytest.mark.parametrize("name", CASES)
def test_every_row_is_run_by_one_process_and_none_twice(name: str, shared: list[dict[str, Any]]):
    rows = sorted(row for process in shared for row in process[name]["rows"])
    assert rows == sorted(alone(name)["rows"])


def test_validation_a_fault_and_a_signal_are_everyones(shared: list[dict[str, Any]]):
    for process in shared:
        assert process["validation"] == pytest.approx(validate(), rel=1e-5)
        assert "not finite" in process["not finite"]
        assert process["any"] == [True, False]


def test_shares_are_contiguous_complete_and_almost_equal():
    for size in range(1, 9):
        for n in range(20):
            shares = [Processes(rank, size).share(n) for rank in range(size)]
            taken = [row for share in shares for row in range(n)[share]]
            assert taken == list(range(n))
            assert max(s.stop - s.start for s in shares) - n // size <= 1
    assert ALONE.share(7) == slice(0, 7) and ALONE.first


# ---------------------------------------------------------------- whole runs


@pytest.fixture(scope="module")
def recipe_file(tiny_recipe: Recipe, tmp_path_factory) -> Path:
    """The tiny recipe as TOML: scalars and lists read there as they do in JSON."""
    values = {k: v for k, v in flat(written(tiny_recipe)).items() if v is not None}
    path = tmp_path_factory.mktemp("recipe") / "tiny.toml"
    path.write_text("".join(f"{k} = {json.dumps(v)}\n" for k, v in values.items() if k != "name"))
    return path


def run(n: int, recipe: Path, out: Path, *more: str) -> list[str]:
    verb = ["-m", "tinymemorylm", "train", "--device", "cpu", "--recipe", str(recipe)]
    return torchrun(n, *verb, "--out", str(out), *more)


@pytest.fixture(scope="module")
def by_two(recipe_file: Path, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("two") / "run"
    done = launched(run(2, recipe_file, out))
    assert done.returncode == 0, done.stderr
    return out


def assert_close_runs(one: Path, two: Path) -> None:
    names = {p.relative_to(one) for p in one.rglob("*")}
    assert names == {p.relative_to(two) for p in two.rglob("*")}
    for name in ("pretrain.pt", "model.pt"):
        a, b = load_tensors(one / name)["model"], load_tensors(two / name)["model"]
        for key in a:
            torch.testing.assert_close(a[key], b[key], rtol=1e-2, atol=1e-3)
    for a, b in zip(lines(one / "metrics.jsonl"), lines(two / "metrics.jsonl"), strict=True):
        assert a.keys() == b.keys() and a["tokens_seen"] == b["tokens_seen"]
        assert a["loss"] == pytest.approx(b["loss"], rel=1e-3)


def test_a_run_of_two_leaves_the_files_of_one_and_close_weights(by_two: Path, finished_run: Path):
    assert_close_runs(by_two, finished_run)
    assert read_checkpoint(checkpoint_folders(by_two)[-1])["machine"]["processes"] == 2


def process_of_rank(rank: int, run: Path) -> int:
    """The id of one of a run's processes, by its environment."""
    for path in Path("/proc").iterdir():
        try:
            environment = (path / "environ").read_bytes().split(b"\0")
            command = (path / "cmdline").read_bytes()
        except OSError:
            continue
        if f"RANK={rank}".encode() in environment and str(run).encode() in command:
            return int(path.name)
    raise AssertionError(f"no process of rank {rank}")


def when_at(step: int, out: Path, process: subprocess.Popen[str]) -> None:
    metrics = out / "metrics.jsonl"
    for _ in range(16_000):
        if metrics.exists() and metrics.read_bytes().count(b"\n") >= step:
            return
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.01)
    raise AssertionError(f"step {step} never came")


def signalled(command: list[str], out: Path, rank: int, number: int, at: int = 3) -> Run:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    when_at(at, out, process)
    os.kill(process_of_rank(rank, out), number)
    _, errors = process.communicate(timeout=170)
    return subprocess.CompletedProcess(command, process.returncode, "", errors)


def test_a_dead_process_ends_the_run_and_a_restart_goes_on_to_the_same_bits(
    recipe_file: Path, by_two: Path, tmp_path: Path
):
    out = tmp_path / "run"
    command = run(2, recipe_file, out, "--resume")
    command.insert(command.index("--nproc-per-node"), "--max-restarts=1")
    done = signalled(command, out, 1, signal.SIGKILL)
    assert done.returncode == 0, done.stderr
    # torchrun may end the survivor before it has found out.
    assert all("another process of the run has ended" in line for line in said(done))
    assert re.search(r"^resumed at step \d+$", done.stderr, re.M)
    assert differences(out, by_two) == []


def test_a_changed_number_of_processes_is_said(
    by_two: Path, tiny_recipe: Recipe, recipe_file: Path, tmp_path: Path, capsys
):
    out = tmp_path / "run"
    shutil.copytree(by_two, out)
    (out / "model.pt").unlink()
    shutil.rmtree(checkpoint_folders(out)[-1])
    train(load_recipe(recipe_file), out, resume=True, device="cpu")
    told = capsys.readouterr().err
    assert "processes 1, before 2: the run goes on, but no longer exactly" in told
    assert_close_runs(out, by_two)


@pytest.mark.slow
def test_a_signal_to_one_process_stops_all_at_the_same_step(recipe_file: Path, tmp_path: Path):
    out = tmp_path / "run"
    done = signalled(run(2, recipe_file, out), out, 1, signal.SIGTERM)
    assert done.returncode == 1 and len(said(done)) == 1  # torchrun's code; ours are 130
    step = lines(out / "metrics.jsonl")[-1]["step"]
    assert said(done) == [f"tmlm: stopped at step {step}; go on with --resume"]
    assert newest(out) == step and done.stderr.count("exitcode  : 130") >= 1


def test_bad_input_is_one_line_from_all_of_them(recipe_file: Path, tmp_path: Path):
    done = launched(run(2, recipe_file, tmp_path / "run", "--data", "nowhere.txt"))
    assert len(said(done)) == 1 and "nowhere.txt" in said(done)[0]
    assert "exitcode  : 2" in done.stderr and "tinymemorylm/" not in done.stderr
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- longer


@pytest.mark.slow
def test_a_run_of_four_is_that_of_one(recipe_file: Path, finished_run: Path, tmp_path: Path):
    done = launched(run(4, recipe_file, tmp_path / "run"))
    assert done.returncode == 0, done.stderr
    assert_close_runs(tmp_path / "run", finished_run)


@pytest.mark.slow
def test_two_hosts_that_share_a_directory_survive_the_death_of_either():
    """Two network namespaces; skipped where none can be made."""
    script = Path(two_hosts.__file__)
    path = os.pathsep.join([str(script.parent), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, env=environment
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    if "skipped" in report:
        pytest.skip(report["skipped"])
    for death in report["deaths"]:
        assert death["differences"] == [] and death["resumed"], report
        assert death["other_ended_after_seconds"] < 60 and len(death["other_said"]) == 1, report
