"""The model directory: `config.json`, `tokenizer.json`, `pretrain.pt` and `model.pt`.

In: a directory of a run or a release. Out: the model and its tokenizer, checked against each
other; and the way such a directory is written.
"""

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

import torch

from tinymemorylm.config import ModelConfig, from_mapping
from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, write_json
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import WORD, Tokenizer

Weights = Literal["pretrain", "model"]
FORMAT = 1


def read_config(folder: Path) -> dict[str, Any]:
    """The directory's config.json. Raises InputError if it is missing or unreadable."""
    path = folder / "config.json"
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(
            f"{folder} is not a model directory: no config.json; train one with `tmlm quickstart`"
        ) from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON: {error}") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise InputError(f"{path}: not a config of format {FORMAT}; made by another version?")
    return values


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a .pt of tensors and plain containers, running no code of its own.

    Raises InputError if the file is missing, damaged, or holds anything else.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"no file {path}") from None
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise InputError(f"{path} is damaged or not a tensor file: {reason}") from None


def save_weights(path: Path, model: Transformer, tokenizer_sha256: str) -> None:
    """Write the weights, tied ones once, with the tokenizer they belong to."""
    content = {"model": model.state_dict(), "tokenizer_sha256": tokenizer_sha256, "format": FORMAT}
    with atomic_file(path) as file:
        torch.save(content, file)


def write_config(folder: Path, config: ModelConfig, details: dict[str, Any]) -> None:
    write_json(
        folder / "config.json",
        {"format": FORMAT, "architecture": dataclasses.asdict(config), **details},
    )


def read_architecture(folder: Path) -> ModelConfig:
    """The architecture in the directory's config.json."""
    values = read_config(folder).get("architecture", {})
    return from_mapping(ModelConfig, values, str(folder / "config.json"))


def load_model(
    folder: Path,
    weights: Weights | None = None,
    device: str = "cpu",
    tokenizer: Tokenizer | None = None,
) -> tuple[Transformer, Tokenizer]:
    """The model, ready to use, and its tokenizer. weights None: the tuned ones if there.

    tokenizer: the directory's, where it is of a kind only the caller knows. Raises InputError if a
    file is missing or damaged, or weights and tokenizer don't match.
    """
    config = read_architecture(folder)
    tokenizer = tokenizer or Tokenizer.load(folder / "tokenizer.json")
    if tokenizer.sha256 != read_config(folder).get("tokenizer_sha256"):
        raise InputError(
            f"{folder / 'tokenizer.json'} is not the tokenizer this model was made with"
        )
    path = folder / f"{weights or default_weights(folder)}.pt"
    content = load_tensors(path)
    if content.get("tokenizer_sha256") != tokenizer.sha256:
        raise InputError(f"{path} was trained with another tokenizer than {folder}/tokenizer.json")
    model = Transformer(config)
    try:
        model.load_state_dict(content["model"])
    except (RuntimeError, KeyError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not fit config.json: {reason[:300]}") from None
    return model.to(device).eval(), tokenizer


def default_weights(folder: Path) -> Weights:
    """The tuned weights if the directory has them."""
    return "model" if (folder / "model.pt").exists() else "pretrain"


def read_log_boost(
    folder: Path, tokenizer: Tokenizer, weights: Weights | None = None
) -> torch.Tensor | None:
    """What to subtract from the logits, (vocab_size,), if the weights need an adjustment."""
    boost = read_config(folder)["logit_adjustment"].get(weights or default_weights(folder))
    return log_boost(tokenizer, boost)


def log_boost(tokenizer: Tokenizer, boost: float | None) -> torch.Tensor | None:
    """Log of the boost for words, 0 for the rest, (vocab_size,); None for no boost."""
    if boost is None:
        return None
    return torch.from_numpy(tokenizer.classes == WORD).float() * math.log(boost)
