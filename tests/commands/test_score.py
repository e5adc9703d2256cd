"""`tmlm score` as its user and its scripts see it."""

import io
import json
import math
import sys
from pathlib import Path

import pytest

from tinymemorylm import cli, load

TEXT = "The cat sat on the mät.\n\tOnce upon a time.\n"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_bytes(TEXT.encode())
    return path


def test_json_has_the_contracts_shape_and_adds_up(finished_run: Path, file: Path, capsys):
    assert cli.main(["score", "--model", str(finished_run), "--text", str(file), "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    keys = {"path", "logprob", "bits_per_byte", "bytes", "tokens", "token_logprobs"}
    assert set(report) == keys and report["path"] == str(file)
    rows = report["token_logprobs"]
    assert len(rows) == report["tokens"]
    assert all(set(row) == {"token", "id", "logprob", "class"} for row in rows)
    assert {row["class"] for row in rows} == {"word", "character"}
    assert sum(row["logprob"] for row in rows) == pytest.approx(report["logprob"])
    assert report["bytes"] == len(TEXT.encode())
    bits = -report["logprob"] / math.log(2) / report["bytes"]
    assert report["bits_per_byte"] == pytest.approx(bits)
    assert report["logprob"] == load(finished_run).score(TEXT).logprob


def test_stdin_and_weights_can_be_chosen(finished_run: Path, file: Path, monkeypatch, capsys):
    arguments = ["score", "--model", str(finished_run), "--weights", "pretrain", "--json"]
    assert cli.main([*arguments, "--text", str(file)]) == 0
    wanted = json.loads(capsys.readouterr().out)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"\xef\xbb\xbf" + TEXT.encode())))
    assert cli.main(arguments) == 0
    assert json.loads(capsys.readouterr().out) == {**wanted, "path": "-"}


def test_without_a_terminal_there_is_a_line_a_token(finished_run: Path, file: Path, capsys):
    assert cli.main(["score", "--model", str(finished_run), "--text", str(file)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(load(finished_run).tokens(TEXT)) + 1
    assert "\x1b" not in "".join(lines) and "bits per byte" in lines[-1]


def test_on_a_terminal_the_text_is_coloured(finished_run: Path, file: Path, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    arguments = ["score", "--model", str(finished_run), "--text", str(file)]
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert "\x1b[" in out and "bits of surprise" in out and "⏎" in out
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(arguments) == 0
    assert "\x1b[" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "empty"), (b"caf\xe9!", "not UTF-8 at byte 4")]
)
def test_text_that_cannot_be_scored_is_named(
    finished_run: Path, tmp_path: Path, content: bytes, message: str, capsys
):
    path = tmp_path / "bad.txt"
    path.write_bytes(content)
    assert cli.main(["score", "--model", str(finished_run), "--text", str(path)]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"tmlm: {path}: {message}") and error.count("\n") == 1
