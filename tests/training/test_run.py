"""Whole runs of seconds: what they leave behind, and that stopping changes nothing."""

import dataclasses
import json
import os
import signal
from pathlib import Path

import pytest
import torch

from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.model_directory import load_model
from tinymemorylm.tensor_files import load_tensors
from tinymemorylm.training import loop
from tinymemorylm.training.checkpoint import checkpoint_folders
from tinymemorylm.training.loop import InterruptedRunError
from tinymemorylm.training.phases import train

SAMPLE_FIELDS = [
    "phase",
    "step",
    "tokens_seen",
    "prompt",
    "completion",
    "nll",
    "ppl",
    "bits_per_byte",
    "temperature",
    "top_p",
    "seed",
    "repetition",
]
METRIC_FIELDS = (
    "phase step tokens_seen loss nll bits_per_byte lr grad_norm tokens_per_second seconds"
)


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def without_times(rows: list[dict]) -> list[dict]:
    return [{k: v for k, v in r.items() if k not in ("seconds", "tokens_per_second")} for r in rows]


def assert_same_run(one: Path, two: Path) -> None:
    for name in ("pretrain.pt", "model.pt"):
        a, b = load_tensors(one / name)["model"], load_tensors(two / name)["model"]
        assert all(torch.equal(a[key], b[key]) for key in a)
    assert without_times(lines(one / "metrics.jsonl")) == without_times(
        lines(two / "metrics.jsonl")
    )
    assert lines(one / "samples.jsonl") == lines(two / "samples.jsonl")


def test_a_run_leaves_the_cards_five_files_and_a_card(finished_run: Path):
    for name in ("tokenizer.json", "pretrain.pt", "model.pt", "samples.jsonl", "loss_curve.png"):
        assert (finished_run / name).stat().st_size > 100
    assert "## Training" in (finished_run / "README.md").read_text()
    inside = {p.name for p in (finished_run / "checkpoints").rglob("*")}
    assert not inside & {"model.pt", "pretrain.pt"}


def test_metrics_and_samples_have_their_contracts_fields(finished_run: Path):
    metrics, samples = (lines(finished_run / f"{n}.jsonl") for n in ("metrics", "samples"))
    assert [m["step"] for m in metrics] == list(range(1, 11))
    assert [m["phase"] for m in metrics] == ["pretrain"] * 6 + ["sft"] * 4
    assert all(set(METRIC_FIELDS.split()) <= set(m) for m in metrics)
    assert all(set(SAMPLE_FIELDS) <= set(s) for s in samples)
    assert metrics[5]["val_bits_per_byte"] < metrics[2]["val_bits_per_byte"] * 1.05
    assert all("relevance" in m for m in metrics[6:])
    config = json.loads((finished_run / "config.json").read_text())
    assert config["provenance"]["tokens_seen"] == metrics[-1]["tokens_seen"]


def test_the_saved_weights_load_and_answer(finished_run: Path):
    model, tokenizer = load_model(finished_run)
    pretrained, _ = load_model(finished_run, "pretrain")
    ids = torch.tensor([[tokenizer.bos_id, *tokenizer.encode("Once upon a time")]])
    with torch.no_grad():
        assert not torch.equal(model(ids), pretrained(ids))


def test_the_same_seed_gives_the_same_bits(finished_run: Path, tiny_recipe: Recipe, tmp_path: Path):
    train(tiny_recipe, tmp_path / "again", device="cpu")
    assert_same_run(finished_run, tmp_path / "again")


@pytest.mark.parametrize("stop_at", [1, 4, 6, 9])
def test_interrupted_and_resumed_gives_the_same_bits(
    stop_at: int, finished_run: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    run = tmp_path / "run"
    calls = 0

    def step_then_signal(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == stop_at:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args, **kwargs)

    original = loop.train_step
    monkeypatch.setattr(loop, "train_step", step_then_signal)
    with pytest.raises(InterruptedRunError, match=f"stopped at step {stop_at}"):
        train(tiny_recipe, run, device="cpu")
    assert checkpoint_folders(run)[-1].name == f"step-{stop_at:06d}"
    monkeypatch.setattr(loop, "train_step", original)
    train(tiny_recipe, run, resume=True, device="cpu")
    weights = [load_tensors(r / "model.pt")["model"] for r in (run, finished_run)]
    assert all(torch.equal(weights[0][k], weights[1][k]) for k in weights[0])
    assert without_times(lines(run / "metrics.jsonl")) == without_times(
        lines(finished_run / "metrics.jsonl")
    )


def test_killed_without_warning_and_resumed_gives_the_same_run(
    finished_run: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    """As after SIGKILL: lines were written past the last checkpoint, nothing was saved since."""
    run = tmp_path / "run"
    original = loop.train_step
    calls = 0

    class Killed(BaseException):
        pass

    def step_or_die(*args, **kwargs):
        nonlocal calls
        calls += 1
        if calls == 8:
            raise Killed
        return original(*args, **kwargs)

    monkeypatch.setattr(loop, "train_step", step_or_die)
    with pytest.raises(Killed):
        train(tiny_recipe, run, device="cpu")
    assert len(lines(run / "metrics.jsonl")) == 7
    with (run / "metrics.jsonl").open("a") as file:
        file.write('{"torn":')
    monkeypatch.setattr(loop, "train_step", original)
    train(tiny_recipe, run, resume=True, device="cpu")
    assert_same_run(run, finished_run)


def test_a_loss_not_finite_keeps_the_last_good_checkpoint(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    def not_finite(*args, **kwargs):
        raise RunError("the loss is nan: not finite")

    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(loop, "train_step", not_finite)
        with pytest.raises(RunError, match=r"stopped before step 1: .* last good checkpoint"):
            train(tiny_recipe, run, device="cpu")
    assert [f.name for f in checkpoint_folders(run)] == ["step-000000"]


def test_resuming_a_finished_run_does_nothing(finished_run: Path, tiny_recipe: Recipe, capsys):
    before = (finished_run / "model.pt").stat().st_mtime_ns
    train(tiny_recipe, finished_run, resume=True)
    assert (finished_run / "model.pt").stat().st_mtime_ns == before
    assert "finished" in capsys.readouterr().err


def test_an_occupied_directory_is_not_overwritten(finished_run: Path, tiny_recipe: Recipe):
    with pytest.raises(InputError, match="is not empty; --resume"):
        train(tiny_recipe, finished_run)


def test_sft_alone_starts_from_a_model_directory(
    finished_run: Path, tiny_recipe: Recipe, tmp_path: Path
):
    recipe = dataclasses.replace(
        tiny_recipe, pretrain=dataclasses.replace(tiny_recipe.pretrain, tokens=0)
    )
    run = tmp_path / "tuned"
    train(recipe, run, start_from=finished_run, device="cpu")
    assert {m["phase"] for m in lines(run / "metrics.jsonl")} == {"sft"}
    assert (run / "tokenizer.json").read_bytes() == (finished_run / "tokenizer.json").read_bytes()
    assert (run / "pretrain.pt").read_bytes() == (finished_run / "pretrain.pt").read_bytes()


def test_a_damaged_checkpoint_is_passed_over(
    tiny_recipe: Recipe, tmp_path: Path, capsys, finished_run: Path
):
    run = tmp_path / "run"
    train(tiny_recipe, run, device="cpu")
    for name in ("model.pt", "pretrain.pt"):
        (run / name).unlink()
    newest = checkpoint_folders(run)[-1] / "state.pt"
    newest.write_bytes(newest.read_bytes()[:2000])
    train(tiny_recipe, run, resume=True, device="cpu")
    assert "is damaged" in capsys.readouterr().err
    assert without_times(lines(run / "metrics.jsonl")) == without_times(
        lines(finished_run / "metrics.jsonl")
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": ()}, "names no data"),
        ({"chat_data": ()}, "names no conversations"),
        ({"vocab_size": 60_000}, "too small"),
    ],
)
def test_unusable_recipes_are_one_clear_error(
    changes: dict, message: str, tiny_recipe: Recipe, tmp_path: Path
):
    with pytest.raises(InputError, match=message):
        train(dataclasses.replace(tiny_recipe, **changes), tmp_path / "run")


def test_an_unknown_device_is_a_clear_error(tiny_recipe: Recipe, tmp_path: Path):
    with pytest.raises(InputError, match="device 'abacus'"):
        train(tiny_recipe, tmp_path / "run", device="abacus")


def test_skipped_input_is_counted_also_when_no_tokenizer_is_built(
    finished_run: Path, tiny_recipe: Recipe, tmp_path: Path, capsys
):
    chats = tmp_path / "chats.jsonl"
    good = '{"prompt": "Hi, how are you today?", "response": "Fine."}\n'
    chats.write_text(good * 30 + "{broken\n")
    recipe = dataclasses.replace(
        tiny_recipe,
        chat_data=(str(chats),),
        pretrain=dataclasses.replace(tiny_recipe.pretrain, tokens=0),
    )
    train(recipe, tmp_path / "run", start_from=finished_run, skip_bad=True, device="cpu")
    assert "skipped 1 bad pieces of input" in capsys.readouterr().err
