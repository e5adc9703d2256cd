import errno
import json
from pathlib import Path

import pytest

from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, write_json, write_text
from tinymemorylm.progress import Progress, watched
from tinymemorylm.training.run_files import JsonLines


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_json_is_whole_and_readable(tmp_path: Path):
    write_json(tmp_path / "deep" / "a.json", {"é": [1, 2]})
    assert json.loads((tmp_path / "deep" / "a.json").read_text()) == {"é": [1, 2]}


def test_lines_are_cut_back_to_a_checkpoint(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.append({"step": 1})
    length = lines.sync()
    lines.append({"step": 2})
    lines.close()
    again = JsonLines(path, length)
    again.append({"step": 2, "again": True})
    again.close()
    assert [json.loads(x) for x in path.read_text().splitlines()] == [
        {"step": 1},
        {"step": 2, "again": True},
    ]


def test_a_line_the_disk_has_no_room_for_is_taken_back_whole(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    lines = JsonLines(path)
    lines.append({"step": 1})
    file = lines._file

    class Full:
        def __init__(self) -> None:
            self.room = 9

        def write(self, content: bytes) -> int:
            if not self.room:
                raise OSError(errno.ENOSPC, "full")
            self.room, part = 0, content[: self.room]
            return file.write(part)

        def __getattr__(self, name: str):
            return getattr(file, name)

    lines._file = Full()  # type: ignore
    with pytest.raises(OSError, match="full"):
        lines.append({"step": 2, "loss": 3.0})
    assert path.read_bytes() == b'{"step": 1}\n'
    lines._file = file
    lines.append({"step": 3})
    assert lines.sync() == path.stat().st_size == 24
    lines.close()


def test_lines_fewer_than_a_checkpoint_counts_on_are_an_error(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("{}\n")
    with pytest.raises(InputError, match="holds 3 bytes, fewer than the 4"):
        JsonLines(path, 4)
    assert path.read_text() == "{}\n"


def test_progress_is_silent_for_two_seconds_then_plain_lines(capsys):
    now = 0.0
    with Progress("packing", 100, clock=lambda: now) as progress:
        for now in (1.0, 3.0, 4.0, 20.0):
            progress.update(now * 5, "words")
    assert capsys.readouterr().err.splitlines() == [
        "packing 15%  words  ETA 0:17",
        "packing 100%  words  ETA 0:00",
    ]


def test_watched_items_pass_through():
    assert list(watched("x", ["a", "bb"], len, None)) == ["a", "bb"]
