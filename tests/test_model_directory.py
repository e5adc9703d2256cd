import json
import pickle
import shutil
from pathlib import Path

import pytest
import torch

from tinymemorylm.errors import InputError
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


class Hostile:
    def __reduce__(self):
        return (Path.touch, (Path("owned"),))


def test_a_hostile_pickle_is_refused_and_does_nothing(copy: Path, monkeypatch):
    monkeypatch.chdir(copy)
    (copy / "model.pt").write_bytes(pickle.dumps(Hostile()))
    with pytest.raises(InputError, match="damaged or not a tensor file"):
        load_model(copy)
    assert not (copy / "owned").exists()


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
        ('{"format": 1, "architecture": {"depth": 3}}', "depth"),
    ],
)
def test_a_foreign_config_is_one_clear_error(copy: Path, text: str, message: str):
    (copy / "config.json").write_text(text)
    with pytest.raises(InputError, match=message):
        load_model(copy)


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
