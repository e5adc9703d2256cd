"""A model unrolled: each logical layer with weights of its own, as other formats hold them.

In: a `Transformer`. Out: dense float32 matrices (out, in): tied blocks repeated, a factorised
embedding multiplied out, the embedding's scale folded in on the input side. Horizons are left out.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.transformer import Transformer


@dataclass(frozen=True)
class Layer:
    """One logical layer. Tied layers hold the same tensors, not copies."""

    attention_norm: Tensor  # (d_model,)
    q: Tensor  # (n_heads * head_dim, d_model); a head's rotary pairs are rows (i, i + half)
    k: Tensor  # (n_kv_heads * head_dim, d_model)
    v: Tensor  # (n_kv_heads * head_dim, d_model)
    out: Tensor  # (d_model, n_heads * head_dim)
    ffn_norm: Tensor  # (d_model,)
    gate: Tensor  # (d_ff, d_model)
    up: Tensor  # (d_ff, d_model)
    down: Tensor  # (d_model, d_ff)
    is_global: bool


@dataclass(frozen=True)
class Unrolled:
    """A decoder as Llama's descendants have it: untied input and output, layers in a row."""

    config: ModelConfig
    input_embedding: Tensor  # (vocab_size, d_model), scaled
    output_embedding: Tensor  # (vocab_size, d_model)
    final_norm: Tensor  # (d_model,)
    layers: list[Layer]


def unroll(model: Transformer) -> Unrolled:
    """The model's weights on the CPU, in logical order."""
    config = model.config
    weights = {name: tensor.detach().cpu().float() for name, tensor in model.state_dict().items()}
    output, scaled = embeddings(weights)
    return Unrolled(
        config,
        scaled,
        output,
        weights["final_norm.weight"],
        [_layer(config, weights, i) for i in range(config.n_logical_layers)],
    )


def embeddings(weights: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
    """Output and input embedding, (vocab_size, d_model) each; the input's is scaled.

    Multiplied in float64: rounded once, alike on every machine but for a last bit now and then.
    """
    output = weights["embedding.weight"]
    if "embedding_projection.weight" in weights:
        output = (output.double() @ weights["embedding_projection.weight"].double().T).float()
    return output, output * weights["embedding_scale"]


def _layer(config: ModelConfig, weights: dict[str, Tensor], index: int) -> Layer:
    block = config.block_index(index)
    of_block, of_ffn = f"blocks.{block}.", f"ffns.{block % config.n_unique_ffns}."
    kv_width = config.n_kv_heads * config.head_dim
    widths = [config.d_model, kv_width, kv_width]
    q, k, v = weights[of_block + "attention.qkv.weight"].split(widths)
    gate, up = weights[of_ffn + "gate_up.weight"].chunk(2)
    return Layer(
        weights[of_block + "attention_norm.weight"],
        *(q, k, v),
        weights[of_block + "attention.out.weight"],
        weights[of_block + "ffn_norm.weight"],
        *(gate, up),
        weights[of_ffn + "down.weight"],
        config.is_global(index),
    )


def interleaved(rows: Tensor, config: ModelConfig) -> Tensor:
    """Rows of q or k with rotary pairs (i, i + half) moved to (i, i + head_dim / 2).

    That is where a rotation of the whole head, its other pairs turned by 0, looks for them. rows:
    (heads * head_dim, d_model); queries and keys move alike, so their products stay.
    """
    heads = rows.view(-1, config.head_dim, rows.shape[1])
    return heads[:, _pair_order(config)].reshape(rows.shape)


def gathered(rows: Tensor, config: ModelConfig) -> Tensor:
    """What `interleaved` moved, back in its place."""
    heads = rows.view(-1, config.head_dim, rows.shape[1])
    return heads[:, _pair_order(config).argsort()].reshape(rows.shape)


def _pair_order(config: ModelConfig) -> Tensor:
    """Which row of a head stands at each place of the permuted head, (head_dim,)."""
    half = config.rotary_dims // 2
    pairs, rest = torch.arange(half), torch.arange(config.rotary_dims, config.head_dim)
    middle = config.head_dim // 2 - half
    return torch.cat((pairs, rest[:middle], pairs + half, rest[middle:]))
