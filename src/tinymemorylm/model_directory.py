"""The model directory: `config.json`, `tokenizer.json`, `pretrain.pt` and `model.pt`.

In: a directory of a run or a release. Out: the model and its tokenizer, checked against each
other; and the way such a directory is written.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any, Literal

import torch

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, read_json, write_json
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tensor_files import load_tensors, misfit, tensor_bytes
from tinymemorylm.tokenizer import WORD, Tokenizer
from tinymemorylm.validation import from_mapping

Weights = Literal["pretrain", "model"]
FORMAT = 1
ADDED_FIELDS: frozenset[str] = frozenset()
"""Fields of ModelConfig younger than the format: a config without one means its default."""


def read_config(folder: Path) -> dict[str, Any]:
    """The directory's config.json. Raises InputError if it is missing or unreadable."""
    path = folder / "config.json"
    if not path.exists():
        raise InputError(
            f"{folder} is not a model directory: no config.json; name one, or train one with "
            "`tmlm quickstart`"
        )
    values = read_json(path)
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{path}: not a config of format {FORMAT}; made by another version?")
    return values


def save_weights(path: Path, model: Transformer, tokenizer_sha256: str) -> None:
    """Write the weights, tied ones once, with the tokenizer they belong to."""
    content = {"model": model.state_dict(), "tokenizer_sha256": tokenizer_sha256, "format": FORMAT}
    data = tensor_bytes(content)
    with atomic_file(path) as file:
        file.write(data)


def write_config(folder: Path, config: ModelConfig, details: dict[str, Any]) -> None:
    write_json(
        folder / "config.json",
        {"format": FORMAT, "architecture": dataclasses.asdict(config), **details},
    )


def read_architecture(folder: Path) -> ModelConfig:
    """The architecture in the directory's config.json. Raises InputError for another's fields."""
    path, values = folder / "config.json", read_config(folder).get("architecture")
    if not isinstance(values, dict):
        raise InputError(f"{path}: no architecture in it")
    config: ModelConfig = from_mapping(ModelConfig, values, str(path))
    needed = [field.name for field in dataclasses.fields(ModelConfig)]
    if missing := [name for name in needed if name not in values and name not in ADDED_FIELDS]:
        raise InputError(f"{path}: architecture.{missing[0]} is missing")
    return config


def load_model(
    folder: Path,
    weights: Weights | None = None,
    device: str = "cpu",
    tokenizer: Tokenizer | None = None,
) -> tuple[Transformer, Tokenizer]:
    """The model, ready to use, and its tokenizer. weights None: the tuned ones if there.

    tokenizer: the directory's, where it is of a kind only the caller knows. Raises InputError if a
    file is missing or damaged, or weights and tokenizer don't match; nothing larger than the files
    themselves is allocated before that.
    """
    config = read_architecture(folder)
    tokenizer = tokenizer or Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.sha256 != read_config(folder).get("tokenizer_sha256"):
        raise InputError(
            f"{folder / 'tokenizer.json'} is not the tokenizer this model was made with"
        )
    if tokenizer.vocab_size != config.vocab_size:
        raise InputError(
            f"{folder / 'tokenizer.json'} has {tokenizer.vocab_size} tokens, config.json says "
            f"{config.vocab_size}"
        )
    path = folder / f"{weights or default_weights(folder)}.pt"
    content = load_tensors(path)
    if content.get("tokenizer_sha256") != tokenizer.sha256:
        raise InputError(f"{path} was trained with another tokenizer than {folder}/tokenizer.json")
    with torch.device("meta"):
        wanted = Transformer(config).state_dict()
    if reason := misfit(content.get("model"), wanted):
        raise InputError(f"{path} does not fit config.json: {reason}")
    model = Transformer(config)
    model.load_state_dict(content["model"])
    return model.to(device).eval(), tokenizer


def default_weights(folder: Path) -> Weights:
    """The tuned weights if the directory has them."""
    return "model" if (folder / "model.pt").exists() else "pretrain"


def read_log_boost(
    folder: Path, tokenizer: Tokenizer, weights: Weights | None = None
) -> torch.Tensor | None:
    """What to subtract from the logits, (vocab_size,), if the weights need an adjustment."""
    boosts = read_config(folder).get("logit_adjustment")
    if not isinstance(boosts, dict) or not all(_is_boost(boost) for boost in boosts.values()):
        raise InputError(f"{folder / 'config.json'}: logit_adjustment holds other than boosts")
    return log_boost(tokenizer, boosts.get(weights or default_weights(folder)))


def _is_boost(value: Any) -> bool:
    return isinstance(value, float | int) and 0 < value < math.inf


def log_boost(tokenizer: Tokenizer, boost: float | None) -> torch.Tensor | None:
    """Log of the boost for words, 0 for the rest, (vocab_size,); None for no boost."""
    if boost is None:
        return None
    return torch.from_numpy(tokenizer.classes == WORD).float() * math.log(boost)
