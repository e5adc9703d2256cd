"""`tmlm export`, `import` and `push` as their users see them."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest
import tyro

from tinymemorylm import cli
from tinymemorylm.export import source
from tinymemorylm.files import released_model

DOCUMENT = (Path(__file__).parents[2] / "docs" / "export.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("command", re.findall(r"^tmlm .+$", DOCUMENT, re.MULTILINE))
def test_every_command_of_the_document_is_understood(command: str):
    verb = tyro.cli(cli.Verb, args=shlex.split(command)[1:], config=cli.SETTINGS)
    assert callable(verb.run)


@pytest.fixture
def model(finished_run: Path, tmp_path: Path) -> Path:
    """The tiny run, whose boosts were not annealed, as if they had been."""
    folder = tmp_path / "tiny"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("checkpoints", "shards"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "logit_adjustment": {}}))
    return folder


def failure(capsys, *arguments: str) -> str:
    """The one line that bad input gets."""
    assert cli.main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("tmlm: ") and error.count("\n") == 1
    return error


def test_a_model_goes_to_transformers_and_back(model: Path, tmp_path: Path, capsys):
    out, back = tmp_path / "hf", tmp_path / "back"
    assert cli.main(["export", "hf", "--model", str(model), "--out", str(out)]) == 0
    assert f"wrote {out}: " in capsys.readouterr().err
    assert cli.main(["import", "hf", str(out), "--out", str(back)]) == 0
    assert (back / "model.pt").read_bytes() == (model / "model.pt").read_bytes()
    arguments = ["--prompt", "Once", "--seed", "1", "--max-new-tokens", "5"]
    said = []
    for folder in (model, back):
        capsys.readouterr()
        assert cli.main(["generate", "--model", str(folder), *arguments]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]


@pytest.mark.parametrize("target", ["hf", "gguf", "onnx"])
def test_weights_that_need_an_adjustment_are_refused_with_the_nearest_preset(
    finished_run: Path, tmp_path: Path, target: str, capsys
):
    out = tmp_path / "out"
    error = failure(capsys, "export", target, "--model", str(finished_run), "--out", str(out))
    assert "model.pt needs its logits lowered by log 3 for words" in error
    assert "nearest that exports: preset smoke trained by recipe haiku-plus" in error
    assert "boost_anneal set for the sft phase" in error
    assert not out.exists()


def test_the_adjustment_counts_for_the_weights_that_need_it(model: Path, tmp_path: Path, capsys):
    config = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**config, "logit_adjustment": {"pretrain": 3}}))
    arguments = ["export", "hf", "--model", str(model), "--out", str(tmp_path / "hf")]
    assert "the pretrain phase" in failure(capsys, *arguments, "--weights", "pretrain")
    assert cli.main(arguments) == 0


def test_a_tokenizer_of_the_lab_is_refused(model: Path, tmp_path: Path, capsys):
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["ignore_merges"] = False
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    arguments = ["export", "hf", "--model", str(model), "--out", str(tmp_path / "hf")]
    assert "not a tokenizer of ours" in failure(capsys, *arguments)


@pytest.mark.parametrize(
    ("verb", "line"),
    [
        (["export", "gguf", "--out", "x.gguf"], "gguf not installed: pip install 'tinymemorylm"),
        (["export", "onnx", "--out", "x"], "onnx and onnxscript and onnxruntime not installed"),
        (["push", "--repo", "me/tiny"], "pip install 'tinymemorylm[hub]'"),
    ],
)
def test_a_missing_library_gives_the_line_that_installs_it(
    model: Path, verb: list[str], line: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(source.importlib.util, "find_spec", lambda name: None)
    assert line in failure(capsys, *verb, "--model", str(model))
    assert not Path("x").exists() and not Path("x.gguf").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "hf", "--model", "nowhere", "--out", "x"], "nowhere is not a model directory"),
        (["export", "gguf", "--model", "nowhere", "--out", "x"], "is not a model directory"),
        (["import", "hf", "nowhere", "--out", "x"], "nowhere/config.json: can't be read"),
        (["push", "--repo", "me/x", "--model", "nowhere"], "nowhere has no config.json"),
    ],
)
def test_what_is_not_there_is_named(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert message in failure(capsys, *arguments)


def test_an_export_never_falls_on_what_is_there(model: Path, capsys):
    before = (model / "config.json").read_bytes()
    arguments = ["export", "hf", "--model", str(model), "--out", str(model)]
    assert "is there already; name another --out" in failure(capsys, *arguments)
    assert (model / "config.json").read_bytes() == before


@pytest.mark.skipif(not released_model().exists(), reason="no release in this checkout")
def test_the_release_is_what_is_exported_by_default(tmp_path: Path):
    assert cli.main(["export", "hf", "--out", str(tmp_path / "hf")]) == 0
    assert cli.main(["import", "hf", str(tmp_path / "hf"), "--out", str(tmp_path / "back")]) == 0
    again, ours = (folder / "model.pt" for folder in (tmp_path / "back", released_model()))
    assert again.read_bytes() == ours.read_bytes()
