"""The quickstart's own path on a tiny recipe: train, measure, show, and show again."""

import json
from pathlib import Path

import pytest

from tinymemorylm import quickstart
from tinymemorylm.config import Recipe


def test_quickstart_trains_measures_and_shows(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    monkeypatch.setattr(quickstart, "load_recipe", lambda path: tiny_recipe)
    run = tmp_path / "run"
    quickstart.quickstart(run, seed=0, device="cpu")
    first = capsys.readouterr().out
    assert "Try next" in first and "Once upon a time" in first and "Hello!" in first
    texts = json.loads((run / "evaluation.json").read_text())["texts"]
    assert [text["weights"] for text in texts] == ["pretrain", "model"]
    assert all(text["bytes"] > 500 and 0 < text["bits_per_byte"] < 20 for text in texts)
    assert f"{texts[0]['bits_per_byte']:.4f}" in (run / "README.md").read_text()
    quickstart.quickstart(run, seed=0, device="cpu")
    again = capsys.readouterr()
    assert "already trained" in again.err
    assert again.out == first
    (run / "evaluation.json").unlink()  # as after an interruption between training and measuring
    quickstart.quickstart(run, seed=0, device="cpu")
    assert "bits per byte" in capsys.readouterr().out
