import json
import shutil
from pathlib import Path

import pytest
import torch

from tinymemorylm import model_directory
from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import load_model, read_config, read_log_boost
from tinymemorylm.tensor_files import load_tensors


@pytest.fixture
def copy(finished_run: Path, tmp_path: Path) -> Path:
    for name in ("config.json", "tokenizer.json", "pretrain.pt", "model.pt"):
        shutil.copyfile(finished_run / name, tmp_path / name)
    return tmp_path


def test_weights_hold_tied_matrices_once(copy: Path):
    content = load_tensors(copy / "model.pt")
    model, _ = load_model(copy)
    assert sum(t.numel() for t in content["model"].values()) == sum(
        p.numel() for p in model.parameters()
    )


def test_another_runs_tokenizer_is_caught(copy: Path, tokenizer):
    content = load_tensors(copy / "model.pt")
    torch.save({**content, "tokenizer_sha256": "0" * 64}, copy / "model.pt")
    with pytest.raises(InputError, match="trained with another tokenizer"):
        load_model(copy)
    tokenizer.save(copy / "tokenizer.json")
    with pytest.raises(InputError, match="is not the tokenizer this model was made with"):
        load_model(copy)


def test_weights_that_do_not_fit_are_caught(copy: Path):
    content = load_tensors(copy / "model.pt")
    del content["model"]["final_norm.weight"]
    torch.save(content, copy / "model.pt")
    with pytest.raises(InputError, match=r"does not fit config\.json"):
        load_model(copy)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "not a config of format 1"),
        ('{"format": 99}', "not a config of format 1"),
        ('{"format": 1}', "no architecture"),
        ('{"format": 1, "architecture": [1]}', "no architecture"),
        ("[" * 100_000, "not valid JSON"),
        ('{"format": ' + "1" * 5000 + "}", "not valid JSON"),
    ],
)
def test_a_foreign_config_is_one_clear_error(copy: Path, text: str, message: str):
    (copy / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(copy)


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("d_model", 10**9, "d_model must be at most"),
        ("n_logical_layers", 3 * 10**9, "n_logical_layers must be at most"),
        ("d_ff", 60_000_000, "d_ff must be at most"),
        ("embedding_rank", 10**8, "parameters is too large: at most 100,000,000"),
        ("mtp_rank", 10**12, "parameters is too large"),
        ("context_length", 10**12, "context_length must be at most"),
        ("mtp_horizons", list(range(2, 200)), "64 at most"),
        ("rope_theta", float("nan"), "rope_theta must be a finite number"),
        ("norm_eps", -1.0, "norm_eps must be above 0"),
        ("sliding_window", "x" * 10_000, "sliding_window: .*not 'xxx"),
        ("sliding_window", None, "sliding_window"),
        ("depth", 3, "depth: Unexpected"),
        ("x" * 10_000, 3, "xxx.*: Unexpected"),
    ],
)
def test_an_absurd_architecture_is_refused_before_it_is_made(
    copy: Path, field: str, value: object, message: str, monkeypatch
):
    config = json.loads((copy / "config.json").read_text())
    config["architecture"][field] = value
    (copy / "config.json").write_text(json.dumps(config))
    monkeypatch.setattr(model_directory, "Transformer", None)
    with pytest.raises(InputError, match=message) as error:
        load_model(copy)
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(copy)) + 300


def test_a_missing_field_of_the_architecture_is_named(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    del config["architecture"]["sliding_window"]
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"architecture\.sliding_window is missing"):
        load_model(copy)


def test_a_larger_model_than_the_weights_is_never_made(copy: Path, monkeypatch):
    """The config claims what the weights don't hold: only shapes are made, no memory taken."""
    config = json.loads((copy / "config.json").read_text())
    config["architecture"]["d_ff"] = 65_000
    (copy / "config.json").write_text(json.dumps(config))
    made = []

    def noting(config: ModelConfig) -> Transformer:
        made.append(Transformer(config))
        return made[-1]

    monkeypatch.setattr(model_directory, "Transformer", noting)
    with pytest.raises(InputError, match=r"ffns.0.*is of shape"):
        load_model(copy)
    assert [next(model.parameters()).device.type for model in made] == ["meta"]


def test_a_tokenizer_of_another_size_than_the_model_is_caught(copy: Path):
    config = json.loads((copy / "config.json").read_text())
    config["architecture"]["vocab_size"] = 500
    (copy / "config.json").write_text(json.dumps(config))
    with pytest.raises(InputError, match=r"has 512 tokens, config\.json says 500"):
        load_model(copy)


@pytest.mark.parametrize("boosts", [None, 3, {"model": -1}, {"model": "x"}, {"model": [1]}])
def test_adjustments_that_are_no_boosts_are_caught(copy: Path, tokenizer, boosts: object):
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "logit_adjustment": boosts}))
    with pytest.raises(InputError, match="logit_adjustment"):
        read_log_boost(copy, tokenizer)


def test_a_missing_file_is_named(copy: Path):
    (copy / "model.pt").unlink()
    load_model(copy)  # the pretrained weights are still there
    with pytest.raises(InputError, match=r"model\.pt"):
        load_model(copy, "model")
    with pytest.raises(InputError, match="is not a model directory"):
        read_config(copy / "nowhere")


def test_the_adjustment_is_read_for_the_weights_that_need_it(copy: Path, tokenizer):
    _, own = load_model(copy)
    boost = read_log_boost(copy, own)
    assert boost is not None
    assert boost.exp().unique().tolist() == pytest.approx([1.0, 3.0])
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "logit_adjustment": {}}))
    assert read_log_boost(copy, own) is None
