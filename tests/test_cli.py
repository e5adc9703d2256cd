"""The command line as a user meets it: help, results, and one clear line for bad input."""

import dataclasses
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tinymemorylm import cli
from tinymemorylm.commands.generation import Generate
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.language_model import MAX_NEW_TOKENS

VERBS = [
    ["quickstart"],
    ["train"],
    ["pretrain"],
    ["sft"],
    ["generate"],
    ["chat"],
    ["score"],
    ["info"],
    ["tokenizer", "train"],
    ["tokenizer", "inspect"],
    ["lab", "ablate"],
    ["export", "hf"],
    ["export", "gguf"],
    ["export", "onnx"],
    ["import", "hf"],
    ["push"],
    ["lab", "speedrun"],
    ["bench", "train"],
]


def run(*arguments: str) -> int:
    try:
        return cli.main(list(arguments))
    except SystemExit as stop:
        return int(stop.code or 0)


def test_help_is_instant_and_imports_nothing_heavy():
    code = (
        "import sys, tinymemorylm.cli as cli\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "print([m for m in ('torch', 'numpy', 'tokenizers', 'matplotlib') if m in sys.modules])"
    )
    seconds = []
    for _ in range(3):
        began = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds.append(time.perf_counter() - began)
        assert done.stdout.splitlines()[-1] == "[]"
    assert min(seconds) < 1.0  # 0.15 s on a quiet machine


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_help_with_an_example(verb: list[str], capsys):
    assert run(*verb, "--help") == 0
    assert "Example: tmlm " + " ".join(verb) in capsys.readouterr().out


def test_info_prints_the_contracts_shape(capsys):
    assert run("info", "--preset", "haiku-literal", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["parameters"]["inference"] == 1_356_545
    assert report["config"]["sliding_window"] == 512
    assert {"flops_per_token", "kv_cache_bytes"} <= set(report)


def test_generate_prints_the_contracts_shape(finished_run: Path, capsys):
    arguments = ["--model", str(finished_run), "--prompt", "Once", "--max-new-tokens", "5"]
    assert run("generate", *arguments, "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert set(report) == {
        "text",
        "token_ids",
        "finish_reason",
        "prompt_tokens",
        "completion_tokens",
        "tokens_per_second",
    }
    assert run("generate", *arguments) == 0
    assert capsys.readouterr().out.startswith("Once" + report["text"])
    assert run("generate", *arguments, "--chat", "--weights", "pretrain") == 0


def test_a_tokenizer_is_trained_and_inspected(tmp_path: Path, capsys):
    out = tmp_path / "tokenizer.json"
    data = ["--data", "storyworld:3:30KB", "--vocab-size", "400"]
    assert run("tokenizer", "train", *data, "--out", str(out)) == 0
    assert run("tokenizer", "inspect", "--tokenizer", str(out), "--text", "the é", "--json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["bytes"] == 6 and len(report["tokens"]) == len(report["token_ids"])
    assert (tmp_path / "chat_template.jinja").exists()


def test_train_takes_recipe_fields_as_options_and_resumes(tmp_path: Path, capsys):
    arguments = [
        *["train", "--recipe", "smoke", "--out", str(tmp_path / "run"), "--device", "cpu"],
        *["--data", "storyworld:1:40KB", "--chat-data", "storyworld:2:20KB"],
        *["--pretrain.tokens", "4096", "--sft.tokens", "2048", "--pretrain.batch-size", "8"],
    ]
    assert run(*arguments) == 0
    assert run(*arguments) == 2
    assert "is not empty" in capsys.readouterr().err
    assert run(*arguments, "--resume") == 0
    assert "finished" in capsys.readouterr().err
    changed = [*arguments, "--resume", "--sft.learning-rate", "1e-4"]
    assert run(*changed) == 2
    assert "sft.learning_rate 0.002, now 0.0001; --allow-changed" in capsys.readouterr().err
    assert run(*changed, "--allow-changed") == 0
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["provenance"]["tokens_seen"] == 4096 + 2048
    assert (tmp_path / "run" / "loss_curve.png").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "--preset", "limerick"], "unknown preset 'limerick'; choose from haiku"),
        (["info"], "give either --preset NAME or --model DIR"),
        (["info", "--model", "nowhere"], "nowhere is not a model directory"),
        (["generate", "--model", "nowhere", "--prompt", "x"], "nowhere is not a model directory"),
        (["chat", "--model", "nowhere"], "nowhere is not a model directory"),
        (["score", "--text", "nowhere.txt"], "nowhere.txt: can't be read"),
        (["train", "--recipe", "nowhere", "--out", "x"], "no recipe nowhere; name a TOML file or"),
        (
            ["train", "--recipe", "smoke", "--out", "x", "--data", "nowhere.txt"],
            "nowhere.txt",
        ),
        (
            ["train", "--recipe", "smoke", "--out", "x", "--data", "storyworld:a:b"],
            "write storyworld:SEED:BYTES",
        ),
        (
            ["train", "--recipe", "smoke", "--out", "x", "--data", "hf:stories"],
            "write hf:owner/name",
        ),
        (
            ["train", "--recipe", "smoke", "--out", "x", "--architecture.n-heads", "3"],
            "d_model 32 must be a multiple of n_heads 3",
        ),
        (
            ["tokenizer", "train", "--data", "storyworld:1:9KB", "--out", "x.json"],
            "give more text or --vocab-size",
        ),
        (["tokenizer", "inspect", "--tokenizer", "nowhere.json", "--text", "x"], "nowhere.json"),
        (["tokenizer", "inspect", "--tokenizer", "x"], "give either --text TEXT or --data FILE"),
        (["sft", "--recipe", "smoke", "--out", "x", "--model", "nowhere"], "not a model directory"),
        (["pretrain", "--recipe", "smoke", "--out", "x", "--tokenizer", "no.json"], "no.json"),
        (["train", "--recipe", "smoke", "--out", "x", "--pretrain.long-share", "3"], "long_share"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(
    arguments: list[str], message: str, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_generate_names_a_bad_setting(finished_run: Path, capsys):
    where = ["generate", "--model", str(finished_run), "--prompt", "x"]
    assert run(*where, "--temperature", "-1") == 2
    assert capsys.readouterr().err == "tmlm: temperature must be 0 or more, not -1.0\n"
    assert run(*where, "--prompt", "so " * 3000) == 2
    assert "the context holds 256" in capsys.readouterr().err


def test_sampling_options_default_to_the_librarys():
    options = Generate(prompt="x").options()
    assert options.pop("max_new_tokens") == MAX_NEW_TOKENS
    assert options.pop("stop") == ()
    assert options == dataclasses.asdict(Sampling())


def test_a_reader_that_leaves_early_is_no_error(finished_run: Path):
    code = "import sys; from tinymemorylm import cli; sys.exit(cli.main(sys.argv[1:]))"
    score = subprocess.Popen(
        [sys.executable, "-c", code, "score", "--model", str(finished_run)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert score.stdout
    score.stdout.close()
    said = score.communicate(b"the cat " * 50)[1]
    assert all(line.startswith(b"scoring") for line in said.splitlines())  # where it takes long


def test_debug_shows_the_traceback():
    with pytest.raises(ValueError, match="limerick"):
        cli.main(["info", "--preset", "limerick", "--debug"])
