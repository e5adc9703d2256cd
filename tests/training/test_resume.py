"""A run that is stopped anywhere and gone on with is the run that wasn't, to the bit."""

import dataclasses
import random
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
import torch

from run_checks import broken, differences, equal
from tinymemorylm.batches import Batch
from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError
from tinymemorylm.report.run_report import report_run
from tinymemorylm.training import loop, machine
from tinymemorylm.training import step as step_module
from tinymemorylm.training.checkpoint import checkpoint_folders, read_checkpoint
from tinymemorylm.training.phases import train


class Killed(BaseException):
    """Nothing catches it: all that was to come does not happen, as after SIGKILL."""


class Killer:
    """Dies in the n-th call of a function; notes what each step is made of."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch
        self.fed: dict[int, list[bytes]] = defaultdict(list)  # by step of the phase
        original = loop.train_step

        def noting(model, optimizer, batch: Batch, relevance: Batch | None, *args, **more):
            pair = [b.tokens.tobytes() for b in (batch, relevance) if b is not None]
            self.fed[more["step"]].append(b"".join(pair))
            return original(model, optimizer, batch, relevance, *args, **more)

        monkeypatch.setattr(loop, "train_step", noting)

    def at_call(self, module: object, name: str, n: int) -> None:
        original, calls = getattr(module, name), 0

        def counted(*args, **kwargs):
            nonlocal calls
            calls += 1
            if calls == n:
                raise Killed
            return original(*args, **kwargs)

        self.monkeypatch.setattr(module, name, counted)


@pytest.fixture(scope="module")
def small_budget():
    """Room for a row or two: every step is several micro-batches."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(machine, "activation_budget", lambda device: 6_000_000)
        yield


@pytest.fixture(scope="module")
def reference(small_budget, tiny_recipe: Recipe, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("reference") / "run"
    train(tiny_recipe, run, device="cpu")
    return run


KILLS = {
    "before the first step": (loop, "train_step", 1),
    "between checkpoints": (loop, "train_step", 4),
    "mid-accumulation": (step_module, "linear_cross_entropy", 28),
    "writing a checkpoint": (loop, "save_checkpoint", 3),
    "between the phases": (loop, "train_step", 7),
    "tuning, mid-epoch": (loop, "train_step", 10),
    "drawing samples": (loop, "validation_figures", 3),
}


@pytest.mark.parametrize("where", KILLS)
def test_killed_and_resumed_gives_the_same_bits_data_and_lines(
    where: str, reference: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        Killer(patch).at_call(*KILLS[where])
        with pytest.raises(Killed):
            train(tiny_recipe, run, device="cpu")
    assert broken(run) == []
    # The machine has less memory now, and the process other random states: neither matters.
    monkeypatch.setattr(machine, "activation_budget", lambda device: 1)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    train(tiny_recipe, run, resume=True, device="cpu")
    assert differences(run, reference) == []


def test_a_step_is_several_micro_batches_and_every_step_sees_the_same_data_again(
    reference: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    killer = Killer(monkeypatch)
    killer.at_call(step_module, "linear_cross_entropy", 22)
    with pytest.raises(Killed):
        train(tiny_recipe, tmp_path / "run", device="cpu")
    assert len(killer.fed) > 1 and 3 * len(killer.fed) < 40  # a call each horizon, or more
    train(tiny_recipe, tmp_path / "run", resume=True, device="cpu")
    twice = [fed for fed in killer.fed.values() if len(fed) == 3]  # and once in the other phase
    assert twice and all(fed[0] == fed[1] != fed[2] for fed in twice)


def test_random_generators_go_on_where_they_were(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch, small_budget
):
    """Nothing of ours draws from them; whatever will is resumed exactly too."""
    drawn: list[list[float]] = []

    def drawing(*args, **kwargs):
        drawn[-1].append(torch.rand(1).item() + np.random.random() + random.random())
        return original(*args, **kwargs)

    original = loop.train_step
    monkeypatch.setattr(loop, "train_step", drawing)
    for resumed in (False, True):
        drawn.append([])
        torch.manual_seed(3), np.random.seed(3), random.seed(3)
        with monkeypatch.context() as patch:
            if resumed:
                Killer(patch).at_call(loop, "save_checkpoint", 4)  # of step 6
                with pytest.raises(Killed):
                    train(tiny_recipe, tmp_path / "b", device="cpu")
        train(tiny_recipe, tmp_path / "ab"[resumed], resume=resumed, device="cpu")
    whole, parts = drawn
    assert len(whole) == 10 and len(parts) == 12  # steps 5 and 6 a second time
    assert parts[:6] + parts[8:] == whole and parts[6:8] == parts[4:6]


def test_the_thread_count_of_a_run_is_used_again_and_another_is_said(
    reference: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch, capsys
):
    threads = torch.get_num_threads()
    run = tmp_path / "run"
    monkeypatch.setattr(machine.os, "cpu_count", lambda: 8)
    try:
        with monkeypatch.context() as patch:
            Killer(patch).at_call(loop, "train_step", 4)
            with pytest.raises(Killed):
                train(tiny_recipe, run, device="cpu", threads=1)
        for name, wish, used in (("again", None, 1), ("wish", 2, 2), ("environment", None, 2)):
            if name == "environment":
                monkeypatch.setenv("OMP_NUM_THREADS", "2")
            else:
                monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
            torch.set_num_threads(2)
            saved = read_checkpoint(checkpoint_folders(run)[-1])["machine"]
            settled = machine.settle(torch.device("cpu"), wish, saved)
            assert settled.threads == torch.get_num_threads() == used
            assert ("no longer exactly" in capsys.readouterr().err) == (used != 1)
            assert settled.activation_bytes == saved["activation_bytes"] == 6_000_000
    finally:
        torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learning_rate": 1e-4}, r"pretrain.learning_rate 0.004, now 0.0001; --allow-changed"),
        ({"tokens": 2048}, r"pretrain.tokens 1536, now 2048; --allow-changed"),
    ],
)
def test_a_changed_recipe_is_refused_field_by_field(
    changes: dict, message: str, tiny_recipe: Recipe, tmp_path: Path, monkeypatch, capsys
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        Killer(patch).at_call(loop, "train_step", 4)
        with pytest.raises(Killed):
            train(tiny_recipe, run, device="cpu")
    pretrain = dataclasses.replace(tiny_recipe.pretrain, **changes)
    changed = dataclasses.replace(tiny_recipe, name="other", pretrain=pretrain)
    before = {p: p.read_bytes() for p in run.rglob("*") if p.is_file()}
    with pytest.raises(InputError, match=message):
        train(changed, run, resume=True, device="cpu")
    assert {p: p.read_bytes() for p in run.rglob("*") if p.is_file()} == before
    train(changed, run, resume=True, allow_changed=True, device="cpu")
    assert "no longer the run of one recipe" in capsys.readouterr().err
    history = read_checkpoint(checkpoint_folders(run)[-1])["changed"]
    assert [(c["step"], c["field"]) for c in history] == [
        (2, f"pretrain.{name}") for name in changes
    ]
    report_run(run)
    assert f"pretrain.{next(iter(changes))} from " in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"seed": 1}, "seed"),
        ({"data": ("storyworld:1:50KB",)}, "data"),
        ({"spell_share": 0.5}, "spell_share"),
        ({"sft": 0}, "sft.tokens"),
    ],
)
def test_what_is_settled_can_not_be_allowed_to_change(
    changes: dict, field: str, reference: Path, tiny_recipe: Recipe
):
    if "sft" in changes:
        changes = {"sft": dataclasses.replace(tiny_recipe.sft, tokens=0)}
    changed = dataclasses.replace(tiny_recipe, **changes)
    with pytest.raises(InputError, match=f"{field} .*can't change any more: name another --out"):
        train(changed, reference, resume=True, allow_changed=True, device="cpu")


def test_a_changed_decay_takes_effect_and_a_changed_optimiser_is_refused(
    tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        Killer(patch).at_call(loop, "train_step", 4)
        with pytest.raises(Killed):
            train(tiny_recipe, run, device="cpu")
    changes = {"optimizer": "muon"}, {"weight_decay": 0.5}
    muon, decayed = (
        dataclasses.replace(tiny_recipe, pretrain=dataclasses.replace(tiny_recipe.pretrain, **c))
        for c in changes
    )
    with pytest.raises(InputError, match="another optimizer"):
        train(muon, run, resume=True, allow_changed=True, device="cpu")
    with monkeypatch.context() as patch:
        Killer(patch).at_call(loop, "train_step", 4)
        with pytest.raises(Killed):
            train(decayed, run, resume=True, allow_changed=True, device="cpu")
    groups = read_checkpoint(checkpoint_folders(run)[-1])["optimizer"][0]["param_groups"]
    assert [group["weight_decay"] for group in groups] == [0.5, 0.0]


def test_checkpoints_of_other_data_are_refused(
    reference: Path, tiny_recipe: Recipe, tmp_path: Path, monkeypatch
):
    """The sources changed under their names, and the data was packed anew."""
    texts = tmp_path / "texts.jsonl"
    texts.write_text('{"text": "a cat sat on the mat and a dog ran to it"}\n' * 400)
    recipe = dataclasses.replace(tiny_recipe, vocab_size=280, data=(str(texts),))
    run = tmp_path / "run"
    with monkeypatch.context() as patch:
        Killer(patch).at_call(loop, "train_step", 4)
        with pytest.raises(Killed):
            train(recipe, run, device="cpu")
    texts.write_text('{"text": "a cat sat on the mat and a dog ran to it."}\n' * 400)
    (run / "prepared.json").unlink()
    with pytest.raises(InputError, match="made with another"):
        train(recipe, run, resume=True, device="cpu")


def test_states_of_different_bits_are_not_equal():
    one = {"a": [torch.zeros(2), (1, 2.0)]}
    assert equal(one, {"a": [torch.zeros(2), (1, 2.0)]})
    assert not equal(one, {"a": [torch.tensor([0.0, 1e-30]), (1, 2.0)]})
