"""Random weights of which nothing could be mixed up unnoticed, and directories that hold them."""

import dataclasses
from pathlib import Path

import torch

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import save_weights, write_config
from tinymemorylm.tokenizer import Tokenizer

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


def with_window(model: Transformer, window: int) -> Transformer:
    """The same weights under another sliding window."""
    changed = Transformer(dataclasses.replace(model.config, sliding_window=window))
    changed.load_state_dict(model.state_dict())
    return changed.eval()
