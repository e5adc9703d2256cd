"""The README's own commands work as written."""

import io
import json
import re
import shlex
import shutil
import sys
from pathlib import Path

import pytest
import tyro

from tinymemorylm import cli
from tinymemorylm.commands.training import overridden
from tinymemorylm.config import load_recipe, shipped_recipe

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
COMMANDS = re.findall(r"^tmlm .+$", README, re.MULTILINE)


def test_the_two_commands_come_first_and_exist():
    first = re.search(r"```\n(.*?)```", README, re.DOTALL)
    assert first is not None
    targets = re.findall(r"^make (\S+)", first[1], re.MULTILINE)
    assert targets == ["quickstart", "test"]
    makefile = (ROOT / "Makefile").read_text()
    assert all(f"\n{target}:" in makefile for target in targets)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_is_understood(command: str):
    arguments = shlex.split(command)[1:]
    if arguments[0] in cli.WITH_OVERRIDES:
        verb, rest = tyro.cli(
            cli.Verb, args=arguments, config=cli.SETTINGS, return_unknown_args=True
        )
        recipe = overridden(verb.recipe, rest, arguments[0])
        assert recipe.name == verb.recipe.stem and recipe.data and recipe.chat_data
    else:
        verb = tyro.cli(cli.Verb, args=arguments, config=cli.SETTINGS)
        assert callable(verb.run)


@pytest.mark.parametrize("command", [c for c in COMMANDS if "runs/quickstart" in c])
def test_commands_on_a_model_run(
    command: str, finished_run: Path, tmp_path: Path, monkeypatch, capsys
):
    if "export onnx" in command:
        pytest.skip("a minute's work, done by tests/export")
    model = finished_run
    if "export" in command:  # which refuses a boost that is not annealed
        model = shutil.copytree(finished_run, tmp_path / "annealed")
        config = json.loads((model / "config.json").read_text())
        (model / "config.json").write_text(json.dumps(config | {"logit_adjustment": {}}))
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"Hello!\n")))
    for written, there in (("runs/quickstart", model), ("exports", tmp_path)):
        command = command.replace(written, str(there))
    assert cli.main(shlex.split(command)[1:]) == 0
    shown = capsys.readouterr()
    assert shown.err.startswith("wrote") if "export" in command else shown.out.strip()


@pytest.mark.parametrize("code", re.findall(r"```python\n(.*?)```", README, re.DOTALL))
def test_python_examples_run(code: str, finished_run: Path, capsys):
    exec(code.replace("runs/quickstart", str(finished_run)), {})
    assert capsys.readouterr().out.strip()


def test_every_recipe_is_listed_and_loads():
    recipes = sorted(shipped_recipe("x").parent.glob("*.toml"))
    assert len(recipes) >= 5
    for path in recipes:
        load_recipe(path)
        assert f"`{path.stem}`" in README


def test_linked_documents_exist():
    for link in re.findall(r"\]\((docs/[^)]+)\)", README):
        assert (ROOT / link).exists()
