"""Random weights of which nothing could be mixed up unnoticed, and directories that hold them."""

import dataclasses
import math
from pathlib import Path

import torch

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.start import EMBEDDING_STD, initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import save_weights, write_config
from tinymemorylm.tokenizer import Tokenizer

SPREAD = 5.0
"""About the standard deviation of logits: random ones are nearly uniform. So much spread, the
likeliest token stands out, and no probability is too small for llama.cpp's float32."""


@torch.no_grad()
def sharp_model(config: ModelConfig, seed: int = 0) -> Transformer:
    """Norms differ between layers and coordinates; logits are spread by several nats."""
    model = initialise(Transformer(config), seed)
    generator = torch.Generator().manual_seed(seed)
    for parameter in model.parameters():
        if parameter.dim() == 1:
            parameter *= 0.5 + torch.rand(parameter.shape, generator=generator)
    model.final_norm.weight *= SPREAD / (EMBEDDING_STD * math.sqrt(config.d_model))
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
