"""The models ours is held against, as others publish them: nanoGPT's GPT, Hugging Face's Ministral.

In: sizes. Out: plain PyTorch modules and the settings they are published with. Nothing of ours is
in them, and no training trick beyond what their authors state.
"""

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.export.huggingface import shape
from tinymemorylm.export.source import check_extra


@dataclass(frozen=True)
class GPTConfig:
    """Sizes of a plain GPT, and how it is trained. The defaults are nanoGPT's CPU recipe for tiny
    Shakespeare (github.com/karpathy/nanoGPT, README and config/train_shakespeare_char.py)."""

    vocab_size: int
    n_layers: int = 4
    n_heads: int = 4
    width: int = 128
    block: int = 64
    """Positions it can see: its learned position table has no more."""
    batch_size: int = 12
    iterations: int = 2000
    learning_rate: float = 1e-3
    min_learning_rate: float = 1e-4
    warmup: int = 100
    betas: tuple[float, float] = (0.9, 0.99)
    weight_decay: float = 0.1
    max_grad_norm: float = 1.0


class GPTBlock(nn.Module):
    """Pre-norm: attention over the whole past, then a GELU layer four times as wide."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        width = config.width
        self.n_heads = config.n_heads
        self.attention_norm = nn.LayerNorm(width, bias=False)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.LayerNorm(width, bias=False)
        self.up = nn.Linear(width, 4 * width, bias=False)
        self.down = nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        batch, seq, width = x.shape
        q, k, v = (
            part.view(batch, seq, self.n_heads, -1).transpose(1, 2)
            for part in self.qkv(self.attention_norm(x)).split(width, -1)
        )  # (batch, n_heads, seq, width / n_heads) each
        mixed = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, seq, width))
        return x + self.down(F.gelu(self.up(self.ffn_norm(x))))


class GPT(nn.Module):
    """GPT-2 as nanoGPT has it: learned positions, no biases, tied embedding, no dropout."""

    def __init__(self, config: GPTConfig) -> None:
        super().__init__()
        self.config = config
        self.embedding = nn.Embedding(config.vocab_size, config.width)
        self.positions = nn.Embedding(config.block, config.width)
        self.blocks = nn.ModuleList(GPTBlock(config) for _ in range(config.n_layers))
        self.final_norm = nn.LayerNorm(config.width, bias=False)
        residual_std = 0.02 / math.sqrt(2 * config.n_layers)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith(("out.weight", "down.weight"))
                nn.init.normal_(parameter, std=residual_std if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        """Logits (batch, seq, vocab_size) of tokens (batch, seq), seq at most `block`."""
        x = self.embedding(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = block(x)
        return self.final_norm(x) @ self.embedding.weight.T


def gpt_optimizer(model: GPT) -> torch.optim.AdamW:
    """AdamW with weight decay on matrices and embeddings alone, as nanoGPT groups them."""
    config = model.config
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    return torch.optim.AdamW(
        [
            {"params": decayed, "weight_decay": config.weight_decay},
            {"params": others, "weight_decay": 0.0},
        ],
        lr=config.learning_rate,
        betas=config.betas,
        fused=True,
    )


def gpt_learning_rate(config: GPTConfig, step: int, n_steps: float) -> float:
    """nanoGPT's schedule: linear warmup, then a cosine to the minimum at `n_steps`."""
    if step < config.warmup:
        return config.learning_rate * (step + 1) / (config.warmup + 1)
    progress = min(1.0, (step - config.warmup) / max(1.0, n_steps - config.warmup))
    fall = config.learning_rate - config.min_learning_rate
    return config.min_learning_rate + fall * 0.5 * (1 + math.cos(math.pi * progress))


def gpt_step(
    model: GPT, optimizer: torch.optim.Optimizer, tokens: Tensor, learning_rate: float
) -> float:
    """One step on windows (batch, block + 1). Returns the loss in nats per token."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate
    logits = model(tokens[:, :-1])
    loss = F.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), model.config.max_grad_norm)
    optimizer.step()
    return loss.item()


def ministral(config: ModelConfig) -> nn.Module:
    """`MinistralForCausalLM` of the same shape: as many layers, none shared, SDPA, tied embedding.

    Same widths, heads, windows and rotary share; no multi-token prediction. Its weights are its
    own random ones. Raises InputError where Transformers isn't installed.
    """
    check_extra("transformers")
    from transformers import MinistralConfig, MinistralForCausalLM  # type: ignore

    torch.manual_seed(0)
    settings = shape(config) | {
        "tie_word_embeddings": True,
        "use_cache": False,
        "attn_implementation": "sdpa",
    }
    return MinistralForCausalLM(MinistralConfig(**settings))
