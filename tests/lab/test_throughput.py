"""`tmlm bench train`: what it counts, and the shape of what it prints."""

import importlib.util
import json

import pytest
import torch

from tinymemorylm import cli
from tinymemorylm.config import preset
from tinymemorylm.lab import throughput
from tinymemorylm.lab.throughput import (
    attention_flops_per_token,
    hugging_face_side,
    mean_keys,
    our_side,
    training_flops_per_token,
)

HAS_TRANSFORMERS = importlib.util.find_spec("transformers") is not None
FAST = ("--preset", "smoke", "--pairs", "2", "--seconds", "0")


@pytest.fixture(autouse=True)
def small_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(throughput, "TOKENS", 256)
    monkeypatch.setattr(throughput, "SGEMM_SIZE", 64)


def bench(*arguments: str) -> int:
    return cli.main(["bench", "train", *arguments])


@pytest.mark.parametrize("window", [None, 1, 5, 40])
def test_the_keys_of_a_query_are_those_the_mask_lets_through(window: int | None):
    distance = torch.arange(16)[:, None] - torch.arange(16)
    seen = (distance >= 0) & (distance < (window or 16))
    assert mean_keys(16, window) == pytest.approx(float(seen.sum(1).double().mean()))


def test_flops_of_the_cards_table_by_hand():
    # Per layer: qkv 128 x 256, out 128 x 128, SwiGLU 3 x 128 x 224; four heads on 2,133 tokens.
    matrices = 16 * (128 * 256 + 128 * 128 + 3 * 128 * 224) + 3 * 128 * 128 + 4 * 2133 * 128
    attention = 16 * 2 * 128 * 257 / 2
    found = training_flops_per_token(preset("haiku-literal"), 256)
    assert found == pytest.approx(6 * (matrices + attention))


def test_a_window_makes_long_sequences_cheaper():
    whole = preset("haiku-literal", sliding_window=2048)
    windowed = preset("haiku-literal")
    at_2048 = [attention_flops_per_token(config, 2048) for config in (whole, windowed)]
    assert at_2048[1] < 0.7 * at_2048[0]
    assert attention_flops_per_token(whole, 256) == attention_flops_per_token(windowed, 256)


def test_the_report_has_the_contracts_shape(capsys):
    assert bench(*FAST, "--sequences", "32", "64", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [(r["name"], r["sequence"], r["batch"]) for r in report["rows"]] == [
        ("ours", 32, 8),
        ("ours-sft", 32, 8),
        ("ours", 64, 4),
        ("ours-sft", 64, 4),
    ]
    assert all(r["slowest"] <= r["tokens_per_second"] <= r["fastest"] for r in report["rows"])
    assert report["ratios"] == {} and report["sgemm_gflops"] > 0 and report["achieved_gflops"] > 0


def test_a_table_is_printed_without_json(capsys):
    assert bench(*FAST, "--sequences", "32") == 0
    assert "GFLOP/s" in capsys.readouterr().out.splitlines()[-1]


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("--sequences", "5000"), "5000"),
        (("--sequences", "32", "--pairs", "0"), "one pair"),
        (("--preset", "sonnet"), "sonnet"),
    ],
)
def test_bad_options_are_told_of_in_one_line(arguments: tuple[str, ...], named: str, capsys):
    assert bench(*FAST, *arguments) == 2
    printed = capsys.readouterr()
    assert named in printed.err and printed.err.count("\n") == 1 and not printed.out


@pytest.mark.skipif(HAS_TRANSFORMERS, reason="Transformers is installed")
def test_without_transformers_the_command_that_installs_it_is_named(capsys):
    assert bench(*FAST, "--vs", "hf") == 2
    assert "pip install" in capsys.readouterr().err


@pytest.mark.skipif(not HAS_TRANSFORMERS, reason="needs Transformers")
def test_ratios_are_ours_over_hugging_faces(capsys):
    assert bench(*FAST, "--sequences", "32", "--vs", "hf", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in report["rows"]] == ["ours", "hf", "ours-sft"]
    assert report["ratios"].keys() == {"32"} and report["ratios"]["32"] > 0


@pytest.mark.skipif(not HAS_TRANSFORMERS, reason="needs Transformers")
def test_the_peer_has_our_shape_and_shares_no_layers():
    from tinymemorylm.lab.peers import ministral

    config = preset("haiku-literal")
    peer = ministral(config)
    layer = 128 * 256 + 128 * 128 + 3 * 128 * 224 + 2 * 128
    assert sum(p.numel() for p in peer.parameters()) == 16 * layer + 2133 * 128 + 128
    assert hugging_face_side(preset("smoke"), 32).name == "hf"


@pytest.mark.parametrize("phase", ["pretrain", "sft"])
def test_our_side_takes_whole_steps_with_every_objective_of_its_phase(phase, monkeypatch):
    taken = []
    step = throughput.train_step

    def seen(*args, **more):
        taken.append(step(*args, **more))

    monkeypatch.setattr(throughput, "train_step", seen)
    our_side(preset("smoke"), 128, phase).step()
    (figures,) = taken
    assert figures.horizon_nll.keys() == {2, 3}
    assert (figures.relevance is not None) == (phase == "sft")
