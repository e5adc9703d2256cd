"""One process per run directory, whatever became of the one before."""

import errno
import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tinymemorylm import cli
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.training.claim import LOCK, claimed, only_process

HOLD = """
import sys, time
from pathlib import Path
from tinymemorylm.training.claim import claimed
with claimed(Path(sys.argv[1]), resume=True):
    print("held", flush=True)
    time.sleep(600)
"""


@pytest.fixture
def holder(tmp_path: Path):
    """Another process that has the directory."""
    command = [sys.executable, "-c", HOLD, str(tmp_path / "run")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.wait()
    process.stdout.close()


def test_a_second_process_is_refused_by_the_firsts_name_and_ends_with_2(
    holder: subprocess.Popen, tmp_path: Path, capsys
):
    arguments = ["train", "--recipe", "smoke", "--out", str(tmp_path / "run"), "--resume"]
    assert cli.main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"is in use by process {holder.pid} on " in line and "--out" in line


def test_a_killed_process_leaves_no_lock(holder: subprocess.Popen, tmp_path: Path):
    run = tmp_path / "run"
    with pytest.raises(InputError), claimed(run, resume=True):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert (run / LOCK).read_text().startswith(f"process {holder.pid} ")
    with claimed(run, resume=True):
        assert (run / LOCK).read_text().startswith(f"process {os.getpid()} ")
    assert not run.exists() or not any(run.iterdir())


def test_the_pid_of_a_living_stranger_in_the_file_is_no_lock(tmp_path: Path):
    """As after a reboot, when the number has been given to another process."""
    (tmp_path / LOCK).write_text(f"process {os.getppid()} on here\n")
    with only_process(tmp_path):
        assert (tmp_path / LOCK).read_text().startswith(f"process {os.getpid()} ")


def test_a_lock_whose_owner_takes_the_file_along_is_looked_at_again(tmp_path: Path, monkeypatch):
    """Between opening the file and locking it, its owner left: the lock would be of no file."""
    calls = 0

    def flock(descriptor: int, operation: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 1:
            (tmp_path / LOCK).unlink()
        original(descriptor, operation)

    original = fcntl.flock
    monkeypatch.setattr(fcntl, "flock", flock)
    with only_process(tmp_path):
        assert calls == 2 and (tmp_path / LOCK).read_text()


def test_where_files_can_not_be_locked_a_warning_says_so(tmp_path: Path, monkeypatch, capsys):
    def flock(*_: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", flock)
    with only_process(tmp_path):
        pass
    assert "can't be locked (No locks available)" in capsys.readouterr().err


def test_a_directory_made_for_nothing_goes_again(tmp_path: Path):
    with pytest.raises(InputError, match="no data"), claimed(tmp_path / "run", resume=False):
        raise InputError("no data")
    assert not (tmp_path / "run").exists()
    (tmp_path / "mine").mkdir()
    with claimed(tmp_path / "mine", resume=False):
        pass
    assert (tmp_path / "mine").exists()


def test_what_killed_processes_left_half_made_is_cleared(tmp_path: Path):
    (tmp_path / "checkpoints" / ".step-000004.99.tmp").mkdir(parents=True)
    (tmp_path / "checkpoints" / ".step-000004.99.tmp" / ".state.pt.99.tmp").write_bytes(b"half")
    (tmp_path / ".config.json.99.tmp").write_bytes(b"half")
    with claimed(tmp_path, resume=True):
        assert {path.name for path in tmp_path.rglob("*")} == {"checkpoints", LOCK}


def test_a_fault_of_the_system_is_one_line_with_the_file(tmp_path: Path):
    with pytest.raises(RunError) as error, claimed(tmp_path, resume=True):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(tmp_path / "x"))
    assert str(error.value) == (
        f"{tmp_path}: No space left on device ({tmp_path / 'x'}); what it saved is kept: put that "
        "right, then --resume"
    )
