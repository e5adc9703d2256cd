"""The quickstart's own path on a tiny recipe: train, measure, show, and show again."""

import json
import re
from pathlib import Path

import pytest

from tinymemorylm import quickstart
from tinymemorylm.config import Recipe, load_recipe, shipped_recipe
from tinymemorylm.corpus.storyworld.names import listed_names, strange_names
from tinymemorylm.corpus.storyworld.talk import load_book


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


def test_the_names_in_its_prompts_are_in_no_text_it_learns_from():
    recipe = load_recipe(shipped_recipe("quickstart"))
    asked = {"Zibby", "Orlak", "Pemmo"}
    assert any(asked <= set(re.findall(r"\w+", prompt)) for prompt in recipe.chat_prompts)
    known = {name for name, _ in listed_names() + strange_names()}
    known |= {row["name"] for row in load_book().tables["name"]}
    assert not asked & known
