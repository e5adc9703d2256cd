"""`tmlm tokenizer inspect` on a text and on files."""

import json
from pathlib import Path

import pytest

from tinymemorylm import cli
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture
def file(tokenizer: Tokenizer, tmp_path: Path) -> str:
    tokenizer.save(tmp_path / "tokenizer.json")
    return str(tmp_path / "tokenizer.json")


def test_a_text_is_split_and_measured(file: str, capsys):
    arguments = ["tokenizer", "inspect", "--tokenizer", file, "--text", "is the é"]
    assert cli.main([*arguments, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["tokens"] == ["i", "s", " the", " ", "<0xC3>", "<0xA9>"]
    assert report["classes"] == ["character"] * 2 + ["word"] + ["character"] * 3
    assert (report["bytes"], report["n_tokens"]) == (9, 6)
    assert report["bytes_per_token"] == 1.5
    assert report["share_of_bytes_in_words"] == round(4 / 9, 4)
    assert report["share_of_tokens_in_words"] == round(1 / 6, 4)
    assert cli.main(arguments) == 0
    out = capsys.readouterr().out
    assert out.startswith("i|s| the| |<0xC3>|<0xA9>\n6 tokens, 9 bytes, 1.50 bytes per token\n")


def test_files_are_measured_and_what_they_spell_out_is_listed(file: str, tmp_path: Path, capsys):
    (tmp_path / "a.txt").write_text("the the zyx\n<|endoftext|>\nzyx zyx qq the")
    data = ["--data", str(tmp_path / "a.txt"), "--top", "2"]
    assert cli.main(["tokenizer", "inspect", "--tokenizer", file, *data, "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == len("the the zyx") + len("zyx zyx qq the")
    assert report["spelled_out"][0] == {"text": " zyx", "count": 2, "tokens": 4}
    assert len(report["spelled_out"]) == 2
    assert cli.main(["tokenizer", "inspect", "--tokenizer", file, *data]) == 0
    assert "' zyx'" in capsys.readouterr().out


def test_on_a_terminal_words_and_characters_look_different(file: str, monkeypatch, capsys):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert cli.main(["tokenizer", "inspect", "--tokenizer", file, "--text", "is the é"]) == 0
    out = capsys.readouterr().out
    assert "\x1b[4m" in out and "\x1b[30;48;5;" in out and "é" in out


def test_both_kinds_of_input_at_once_are_refused(file: str, capsys):
    both = ["--text", "x", "--data", "storyworld:1:1KB"]
    assert cli.main(["tokenizer", "inspect", "--tokenizer", file, *both]) == 2
    assert "give either --text TEXT or --data FILE" in capsys.readouterr().err
