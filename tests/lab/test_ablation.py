"""Ablations: plans as written, and a real one of two arms and two seeds."""

import dataclasses
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from tinymemorylm import cli
from tinymemorylm.config import shipped_recipe
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.lab import run as lab_run
from tinymemorylm.lab.ablation import LabSettings, ablate, merged, plan, read_ablation
from tinymemorylm.model.account import parameter_account
from tinymemorylm.report.run_report import read_lines
from tinymemorylm.tensor_files import load_tensors
from tinymemorylm.training import loop
from tinymemorylm.training.checkpoint import checkpoint_folders
from tinymemorylm.training.loop import InterruptedRunError

OWN = sorted(p.stem for p in shipped_recipe("ablations/x").parent.glob("*.toml"))
TOML = """
question = "Does a higher rate learn faster?"
base = "tiny.toml"
seeds = [0, 1]

[arms.low.pretrain]
learning_rate = 1e-3

[arms.high]
pretrain.learning_rate = 8e-3
"""
BASE = """
preset = "smoke"
vocab_size = 400
data = ["storyworld:1:40KB"]
sample_prompts = ["It"]

[pretrain]
tokens = 2048
batch_size = 4
sequence_length = 64
warmup_steps = 2
word_boost = 1.0
checkpoint_every = 2
validate_every = 2

[sft]
tokens = 0
"""


@pytest.fixture
def ablation(tmp_path: Path) -> Path:
    (tmp_path / "tiny.toml").write_text(BASE)
    (tmp_path / "rate.toml").write_text(TOML)
    (tmp_path / "held-out.txt").write_text(
        "Once upon a time a cat sat.\n<|endoftext|>\nIt slept.\n"
    )
    return tmp_path / "rate.toml"


@pytest.fixture
def settings(ablation: Path) -> LabSettings:
    return read_ablation(ablation, eval_texts=[str(ablation.parent / "held-out.txt")])


# ---------------------------------------------------------------- what is to be run


@pytest.mark.parametrize("name", [name for name in OWN if name != "base"])
def test_the_projects_ablations_are_of_three_seeds_and_600_000_tokens(name: str):
    settings = read_ablation(Path(name), data=["x.txt"], eval_texts=["y.txt"])
    assert settings.seeds == (0, 1, 2) and settings.question
    for arm in settings.arms:
        pretrain = arm.recipe.pretrain
        assert (pretrain.tokens, arm.recipe.sft.tokens) == (600_000, 0)
        assert pretrain.sequence_length == 256
        if name in ("card", "word-boost"):
            assert (pretrain.batch_size, pretrain.optimizer, pretrain.warmup_steps) == (
                8,
                "adamw",
                30,
            )
        if arm.recipe.preset == "haiku":
            assert parameter_account(arm.recipe.model())["total"] <= 760_000


def test_arms_of_the_words_boost_share_a_run_where_only_the_measure_differs(tmp_path: Path):
    settings = read_ablation(Path("word-boost"), data=["x.txt"], eval_texts=["y.txt"])
    assert [(arm.name, arm.adjust) for arm in settings.arms][2:] == [
        ("constant", False),
        ("constant-adjusted", True),
    ]
    runs = plan(settings, tmp_path, None, False)
    assert len(runs) == 3 * 3
    assert [m.arm for m in runs[2].measures] == ["constant", "constant-adjusted"]


def test_every_arm_has_one_seed_before_any_has_two(settings: LabSettings, tmp_path: Path):
    folders = [
        str(run.folder.relative_to(tmp_path)) for run in plan(settings, tmp_path, None, False)
    ]
    assert folders == [
        "runs/low/seed-0",
        "runs/high/seed-0",
        "runs/low/seed-1",
        "runs/high/seed-1",
    ]


def test_tables_are_merged_within_tables():
    values = {"a": 1, "b": {"c": 2, "d": 3}}
    assert merged(values, {"a": 5, "b": {"c": 4}}) == {"a": 5, "b": {"c": 4, "d": 3}}
    assert values == {"a": 1, "b": {"c": 2, "d": 3}}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("learning_rate = 1e-3", "learning_rat = 1e-3"), r"arm low: pretrain\.learning_rat: "),
        (("[arms.high]", "[arms.high]\ntokenizer = 'wordpiece'"), "tokenizer: .*'wordpiece'"),
        (
            ("[arms.high]", "[arms.high.architecture]\nn_heads = 3\n[arms.high]"),
            "arm high: .*n_heads 3",
        ),
        (("seeds = [", "seeds = [["), "not valid TOML"),
        (("[arms.high]", "architecture.n_heads = 3\n[arms.high]"), "architecture: Unexpected"),
        (('"tiny.toml"', '"nowhere.toml"'), "no recipe .*nowhere.toml"),
        (("seeds = [0, 1]", "seeds = ['a']"), r"seeds\.0: .*'a'"),
        (("question", "quest"), "quest: Unexpected keyword argument"),
        (("[arms.high]", '[arms."../high"]'), r"arm \.\./high: it names a folder"),
    ],
)
def test_a_bad_ablation_names_file_and_field(change, message: str, ablation: Path):
    ablation.write_text(TOML.replace(*change))
    with pytest.raises(InputError, match=message) as error:
        read_ablation(ablation, eval_texts=["x.txt"])
    assert "toml" in str(error.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--ablation", "nowhere"],
            "no ablation nowhere; name a TOML file or one of: beyond, card",
        ),
        (["--ablation", "card"], "names no texts to measure on; give --eval-text PATH..."),
        (
            ["--ablation", "card", "--eval-text", "held-out.txt"],
            "names no data; give --data PATH...",
        ),
        (["--ablation", "rate.toml", "--eval-text", "no.txt"], "no.txt: no such file or folder"),
        (
            ["--ablation", "rate.toml", "--eval-text", "held-out.txt", "--arms", "middle"],
            "no arm middle; it has low, high",
        ),
        (
            ["--ablation", "rate.toml", "--eval-text", "held-out.txt", "--jobs", "0"],
            "jobs and threads must be at least 1",
        ),
    ],
)
def test_bad_input_is_one_line_before_anything_is_trained(
    arguments: list[str], message: str, ablation: Path, monkeypatch, capsys
):
    monkeypatch.chdir(ablation.parent)
    assert cli.main(["lab", "ablate", *arguments, "--out", "lab"]) == 2
    error = capsys.readouterr().err
    assert message in error and len(error.splitlines()) == 1


# ---------------------------------------------------------------- a real one


def test_two_arms_on_two_seeds_are_trained_measured_and_compared(
    ablation: Path, monkeypatch, capsys
):
    monkeypatch.chdir(ablation.parent)
    arguments = ["lab", "ablate", "--ablation", "rate.toml", "--eval-text", "held-out.txt"]
    arguments += ["--out", "lab", "--threads", "1", "--device", "cpu"]
    threads = torch.get_num_threads()
    assert cli.main(arguments) == 0
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert "| low | 2 |" in printed and "± " in printed
    assert printed.strip() == Path("lab/results.md").read_text().strip()

    found = json.loads(Path("lab/results.json").read_text())
    rows = found["rows"]
    assert [(r["arm"], r["seed"]) for r in rows] == [
        ("low", 0),
        ("high", 0),
        ("low", 1),
        ("high", 1),
    ]
    assert all(r["tokens"] == 2048 and r["seconds"] > 0 and r["parameters"] > 0 for r in rows)
    assert all(
        r["texts"][0]["bytes"] == len(b"Once upon a time a cat sat.It slept.\n") for r in rows
    )
    low, high = found["arms"]
    values = {arm: [r["bits_per_byte"] for r in rows if r["arm"] == arm] for arm in ("low", "high")}
    differences = [h - l for l, h in zip(values["low"], values["high"], strict=True)]  # noqa: E741
    assert high["difference"] == pytest.approx(sum(differences) / 2, abs=2e-6)
    spread = abs(differences[0] - differences[1]) / math.sqrt(2)
    assert high["standard_error"] == pytest.approx(spread / math.sqrt(2), abs=2e-6)
    assert low["difference"] is None and low["standard_deviation"] > 0
    assert high["difference"] < -0.1  # eight steps at 8e-3 are far ahead
    assert found["hardware"]["threads"] == 1 and found["failures"] == []
    assert found["data"] == {"storyworld:1:40KB": "storyworld:1:40KB"}

    # Pairs share tokenizer, data and its order; the first step has seen the same batch.
    runs = Path("lab/runs")
    for seed in (0, 1):
        one, two = (runs / arm / f"seed-{seed}" for arm in ("low", "high"))
        assert (one / "shards").resolve() == (two / "shards").resolve()
        first = [read_lines(run / "metrics.jsonl")[0]["nll"] for run in (one, two)]
        assert first[0] == first[1]
    assert (runs / "low/seed-0/loss_curve.png").exists() and (
        runs / "low/seed-0/README.md"
    ).exists()

    # The same command again trains nothing.
    monkeypatch.setattr(lab_run, "train", None)
    assert cli.main([*arguments, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == rows

    # More seeds may join; other settings may not.
    ablation.write_text(TOML.replace("8e-3", "4e-3"))
    assert cli.main(arguments) == 2
    said = capsys.readouterr().err
    assert "begun with recipe.pretrain.learning_rate 0.008, not 0.004; name another --out" in said


def test_stopped_in_a_run_the_same_command_goes_on_to_the_same_results(
    settings: LabSettings, tmp_path: Path, monkeypatch
):
    settings = dataclasses.replace(settings, seeds=(0,))
    whole = ablate(settings, tmp_path / "whole", threads=1, device="cpu")
    original, calls = loop.train_step, 0

    def step_then_signal(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 11:  # the third step of the second run
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "train_step", step_then_signal)
    with pytest.raises(InterruptedRunError):
        ablate(settings, tmp_path / "lab", threads=1, device="cpu")
    assert len(json.loads((tmp_path / "lab/results.json").read_text())["rows"]) == 1
    found = ablate(settings, tmp_path / "lab", threads=1, device="cpu")
    assert calls == 16
    assert [r["bits_per_byte"] for r in found["rows"]] == [
        r["bits_per_byte"] for r in whole["rows"]
    ]


def test_a_run_that_fails_is_listed_and_the_others_go_on(
    settings: LabSettings, tmp_path: Path, monkeypatch
):
    original = lab_run.train

    def diverges(recipe, *args, **kwargs):
        if recipe.pretrain.learning_rate == 1e-3:
            raise RunError("the loss is nan")
        original(recipe, *args, **kwargs)

    settings = dataclasses.replace(settings, seeds=(0,))
    monkeypatch.setattr(lab_run, "train", diverges)
    found = ablate(settings, tmp_path / "lab", threads=1, device="cpu")
    assert found["failures"] == [{"arm": "low", "seed": 0, "error": "the loss is nan"}]
    assert [row["arm"] for row in found["rows"]] == ["high"]
    assert "- low, seed 0: the loss is nan" in (tmp_path / "lab/results.md").read_text()
    monkeypatch.setattr(lab_run, "train", original)
    found = ablate(settings, tmp_path / "lab", threads=1, device="cpu")
    assert found["failures"] == [] and len(found["rows"]) == 2


def test_tokenizers_are_arms_and_runs_go_side_by_side(
    settings: LabSettings, ablation: Path, tmp_path: Path
):
    toml = "base = 'tiny.toml'\nseeds = [0]\ncommon.spell_share = 0.0\n"
    ablation.write_text(
        toml + "".join(f"arms.{k}.tokenizer = '{k}'\n" for k in ("hybrid", "unigram"))
    )
    settings = read_ablation(ablation, eval_texts=settings.eval_texts)
    found = ablate(settings, tmp_path / "lab", jobs=2, threads=1, device="cpu")
    assert [row["arm"] for row in found["rows"]] == ["hybrid", "unigram"]
    hybrid, unigram = found["rows"]
    assert hybrid["parameters"] == unigram["parameters"]
    assert hybrid["bytes_per_token"] != unigram["bytes_per_token"]
    for row in found["rows"]:
        assert 0 < row["validation_at_equal_tokens"] < 8
        assert row["validation_at_equal_seconds"] >= row["validation_at_equal_tokens"] - 0.2
    names = sorted(p.name.rsplit("-", 1)[0] for p in (tmp_path / "lab/tokenizers").iterdir())
    assert names == ["hybrid-400", "unigram-400"]


def test_a_constant_boost_is_measured_with_and_without_adjustment(
    settings: LabSettings, ablation: Path, tmp_path: Path
):
    toml = "base = 'tiny.toml'\nseeds = [0]\ncommon.pretrain.word_boost = 3.0\n"
    ablation.write_text(toml + "[arms.raw]\nadjust = false\n[arms.adjusted]\nadjust = true\n")
    settings = read_ablation(ablation, eval_texts=settings.eval_texts)
    raw, adjusted = ablate(settings, tmp_path / "lab", threads=1, device="cpu")["rows"]
    assert raw["run"] == adjusted["run"] == "raw/seed-0"
    assert (raw["adjusted"], adjusted["adjusted"]) == (False, True)
    assert raw["bits_per_byte"] != adjusted["bits_per_byte"]
    weights = load_tensors(tmp_path / "lab/runs/raw/seed-0/pretrain.pt")
    assert weights["model"]


@pytest.mark.slow
def test_a_signal_stops_runs_side_by_side_and_they_are_saved(ablation: Path):
    (ablation.parent / "tiny.toml").write_text(BASE.replace("tokens = 2048", "tokens = 200_000"))
    lab = ablation.parent / "lab"
    command = ["lab", "ablate", "--ablation", str(ablation), "--out", str(lab), "--jobs", "2"]
    command += ["--eval-text", str(ablation.parent / "held-out.txt"), "--device", "cpu"]
    code = "import sys; from tinymemorylm.cli import main; sys.exit(main(sys.argv[1:]))"
    process = subprocess.Popen([sys.executable, "-c", code, *command])
    metrics = [lab / "runs" / arm / "seed-0" / "metrics.jsonl" for arm in ("low", "high")]
    try:
        for _ in range(600):
            if all(path.exists() and len(read_lines(path)) > 2 for path in metrics):
                break
            time.sleep(0.1)
        process.terminate()
        assert process.wait(timeout=60) == 130
    finally:
        process.kill()
    for path in metrics:
        saved = checkpoint_folders(path.parent)[-1]
        assert saved.name == f"step-{len(read_lines(path)):06d}"
