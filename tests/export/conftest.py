"""Model directories to export: random weights, with all that could be mixed up made unlike.

In: nothing, or EXPORT_PARITY_MODEL, a trained model directory to hold the exports of instead.
"""

import dataclasses
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from tinymemorylm.config import ModelConfig, preset
from tinymemorylm.export.source import Source, read_source
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import save_weights, write_config
from tinymemorylm.tokenizer import Tokenizer, train_tokenizer

N_TOKENS, N_NEW = 200, 24
"""Of the text that all programs score, and of each continuation."""
SHARPNESS = 20.0
"""Random logits are nearly uniform; so much sharper, the likeliest token stands out."""


@torch.no_grad()
def sharp_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """Norms differ between layers and coordinates; logits are spread by several nats."""
    model = initialise(Transformer(config), seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter *= 0.5 + torch.rand(parameter.shape, generator=generator)
    model.final_norm.weight *= SHARPNESS
    return model.eval()


def write_model(folder: Path, model: Transformer, tokenizer: Tokenizer) -> Path:
    """A model directory as small as they come."""
    tokenizer.save(folder / "tokenizer.json")
    save_weights(folder / "model.pt", model, tokenizer.sha256)
    details = {"tokenizer_sha256": tokenizer.sha256, "logit_adjustment": {}, "preset": "smoke"}
    write_config(folder, model.config, details)
    return folder


@pytest.fixture(scope="session")
def merging_tokenizer(texts: list[str]) -> Tokenizer:
    """One with merges; a plain English text makes none."""
    return train_tokenizer([*texts, "café, “naïve” — 日本語 日本 " * 200], 512)


@pytest.fixture(scope="session")
def make_source(
    merging_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Source]:
    """A source of a preset with fields changed."""

    def make(name: str = "smoke", tokenizer: Tokenizer | None = None, **changes: Any) -> Source:
        tokenizer = tokenizer or merging_tokenizer
        config = preset(name, **{"vocab_size": tokenizer.vocab_size, **changes})
        folder = tmp_path_factory.mktemp("models") / name
        return read_source(write_model(folder, sharp_model(config), tokenizer))

    return make


@pytest.fixture(scope="session")
def smoke(make_source: Callable[..., Source]) -> Source:
    """The smoke preset with a factorised embedding, so that all of `haiku` is there, small."""
    return make_source(embedding_rank=24)


@pytest.fixture(scope="session")
def parity_source(smoke: Source) -> Source:
    """The model to compare between programs: a trained one where it is named."""
    named = os.environ.get("EXPORT_PARITY_MODEL")
    return read_source(Path(named)) if named else smoke


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def report(parity_source: Source, exports: Path) -> dict[str, Any]:
    """The benchmark's comparison, its exports left in `exports`."""
    from export_parity import measure

    return measure(parity_source, exports, n_tokens=N_TOKENS, n_new=N_NEW)


def with_window(model: Transformer, window: int) -> Transformer:
    """The same weights under another sliding window."""
    changed = Transformer(dataclasses.replace(model.config, sliding_window=window))
    changed.load_state_dict(model.state_dict())
    return changed.eval()
