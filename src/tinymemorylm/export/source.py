"""What is exported: a model that other programs can hold, with its tokenizer and its story.

In: a model directory. Out: a `Source`; or one line on why its weights can't leave, and what can.
"""

import dataclasses
import importlib.util
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymemorylm.config import PRESETS, ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import Weights, default_weights, load_model, read_config
from tinymemorylm.tokenizer import Tokenizer


@dataclass(frozen=True)
class Source:
    """A model directory read for export, and which of its weights are meant."""

    folder: Path
    weights: Weights
    model: Transformer
    tokenizer: Tokenizer

    @property
    def name(self) -> str:
        """What files and cards call the model: its folder's name."""
        return self.folder.resolve().name


def read_source(folder: Path, weights: Weights | None = None) -> Source:
    """The model in a directory. weights None: the tuned ones if there.

    Raises InputError as `load_model` does, and for weights that need a logit adjustment: no other
    program subtracts it, so they would speak differently there.
    """
    weights = weights or default_weights(folder)
    model, tokenizer = load_model(folder, weights)
    details: dict[str, Any] = read_config(folder)
    if boost := details["logit_adjustment"].get(weights):
        raise InputError(
            f"{folder / weights}.pt needs its logits lowered by log {boost:g} for words (its loss "
            "boost never fell to 1), and a bias-free output layer can't hold that; nearest that "
            f"exports: preset {nearest_preset(model.config)} trained by recipe haiku-plus, or "
            f"boost_anneal set for the {'sft' if weights == 'model' else 'pretrain'} phase"
        )
    return Source(folder, weights, model, tokenizer)


def nearest_preset(config: ModelConfig) -> str:
    """The preset that differs from `config` in the fewest fields; the first of equals."""
    fields = dataclasses.asdict(config)

    def differing(name: str) -> int:
        return sum(fields[k] != v for k, v in dataclasses.asdict(PRESETS[name]).items())

    return min(PRESETS, key=differing)


def check_extra(*modules: str, extra: str = "export") -> None:
    """Raises InputError, with the line that installs it, if a library isn't there."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise InputError(
            f"{' and '.join(missing)} not installed: pip install 'tinymemorylm[{extra}]'"
        )
