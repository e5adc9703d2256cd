"""A `MinistralForCausalLM` directory: what Transformers loads with no remote code.

In: a `Source`. Out: safetensors, configs, tokenizer files with the chat template, and a card. What
the architecture has no place for lies apart in `tinymemorylm/`, for `from_huggingface`.
"""

import math
from pathlib import Path
from typing import Any

import safetensors.torch
from torch import Tensor

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.export.card import write_card
from tinymemorylm.export.source import Source
from tinymemorylm.export.unrolled import Layer, Unrolled, interleaved, unroll
from tinymemorylm.files import atomic_file, write_json
from tinymemorylm.model_directory import read_config
from tinymemorylm.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, Tokenizer

OURS = "tinymemorylm"
"""The folder with what Transformers doesn't read."""
APART = ("embedding.weight", "embedding_projection.weight", "embedding_scale", "horizons.")
"""Weights that the architecture holds multiplied out (the embedding's) or not at all."""
USE = """```python
from transformers import pipeline

generate = pipeline("text-generation", "PATH")
print(generate("Once upon a time", max_new_tokens=60)[0]["generated_text"])
print(generate([{"role": "user", "content": "Hello!"}], max_new_tokens=60)[0]["generated_text"])
```

`PATH` is this folder or its name on the hub; Transformers 5.5 or newer, no remote code."""
NOTE = (
    "This directory holds the model as `MinistralForCausalLM`, in float32: its tied layers are "
    "written out, its factorised embedding multiplied out, its multi-token prediction heads left "
    "out. `tmlm import hf` brings the original back, bit for bit. Text that spells a control token "
    "such as `<|user|>` becomes that token here; encode untrusted text with "
    "`tokenizer(text, split_special_tokens=True)`."
)


def export_huggingface(source: Source, out: Path) -> None:
    """Write the directory. Raises InputError if `out` is in use or a head's width is odd."""
    config = source.model.config
    if config.head_dim % 2:
        raise InputError(f"head_dim {config.head_dim} is odd: Transformers turns halves of a head")
    check_free(out)
    dense = unroll(source.model)
    weights = {name: tensor.contiguous().clone() for name, tensor in named_weights(dense).items()}
    save_tensors(out / "model.safetensors", weights)
    write_json(out / "config.json", architecture(config, source.tokenizer))
    write_json(out / "generation_config.json", generation(source.tokenizer))
    write_tokenizer(source.tokenizer, config, out)
    apart = {k: v for k, v in source.model.state_dict().items() if k.startswith(APART)}
    save_tensors(out / OURS / "weights.safetensors", apart)
    details = {**read_config(source.folder), "exported_weights": source.weights}
    write_json(out / OURS / "config.json", details)
    write_card(source, out, USE, NOTE)


def check_free(out: Path) -> None:
    """Raises InputError unless `out` can become a new directory."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out} is there already; name another --out, or remove it first")


def save_tensors(path: Path, tensors: dict[str, Tensor]) -> None:
    with atomic_file(path) as file:
        file.write(safetensors.torch.save(tensors, metadata={"format": "pt"}))


def architecture(config: ModelConfig, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json of the export."""
    return {
        "architectures": ["MinistralForCausalLM"],
        "model_type": "ministral",
        "dtype": "float32",
        **shape(config),
        **_control_ids(tokenizer),
        "eos_token_id": tokenizer.eos_id,
    }


def shape(config: ModelConfig) -> dict[str, Any]:
    """The architecture as Ministral's configuration has it, layers written out.

    Proportional RoPE divides by head_dim where ours divides by rotary_dims, hence another theta;
    it rounds the number of dimensions down, hence a share rounded up.
    """
    kinds = ("sliding_attention", "full_attention")
    return {
        "vocab_size": config.vocab_size,
        "hidden_size": config.d_model,
        "intermediate_size": config.d_ff,
        "num_hidden_layers": config.n_logical_layers,
        "num_attention_heads": config.n_heads,
        "num_key_value_heads": config.n_kv_heads,
        "head_dim": config.head_dim,
        "hidden_act": "silu",
        "max_position_embeddings": config.context_length,
        "rms_norm_eps": config.norm_eps,
        "sliding_window": config.sliding_window,
        "layer_types": [kinds[config.is_global(i)] for i in range(config.n_logical_layers)],
        "rope_parameters": {
            "rope_type": "proportional",
            "rope_theta": config.rope_theta ** (config.head_dim / config.rotary_dims),
            "partial_rotary_factor": math.ceil(config.rotary_dims / config.head_dim * 1e6) / 1e6,
        },
        "tie_word_embeddings": False,
    }


def generation(tokenizer: Tokenizer) -> dict[str, Any]:
    """generation_config.json: our defaults; any control token ends a text, as it does with us."""
    ends = [id for id in range(len(SPECIAL_TOKENS)) if id != tokenizer.eos_id]
    return {
        **_control_ids(tokenizer),
        "eos_token_id": [tokenizer.eos_id, *ends],
        "do_sample": True,
        "temperature": 0.7,
        "top_p": 0.95,
        "top_k": 0,
    }


def _control_ids(tokenizer: Tokenizer) -> dict[str, int]:
    return {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}


def write_tokenizer(tokenizer: Tokenizer, config: ModelConfig, out: Path) -> None:
    """tokenizer.json as it is, the chat template beside it, and what Transformers asks besides."""
    tokenizer.save(out / "tokenizer.json")
    pad, bos, eos, *roles = SPECIAL_TOKENS
    named = {"pad_token": pad, "bos_token": bos, "eos_token": eos}
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **named,
        "additional_special_tokens": roles,
        "model_max_length": config.context_length,
        "model_input_names": ["input_ids", "attention_mask"],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    write_json(out / "tokenizer_config.json", settings)


def named_weights(dense: Unrolled) -> dict[str, Tensor]:
    """The weights by Transformers' names."""
    weights = {
        "model.embed_tokens.weight": dense.input_embedding,
        "model.norm.weight": dense.final_norm,
        "lm_head.weight": dense.output_embedding,
    }
    for i, layer in enumerate(dense.layers):
        for name, tensor in _named_layer(layer, dense.config).items():
            weights[f"model.layers.{i}.{name}.weight"] = tensor
    return weights


def _named_layer(layer: Layer, config: ModelConfig) -> dict[str, Tensor]:
    return {
        "input_layernorm": layer.attention_norm,
        "self_attn.q_proj": interleaved(layer.q, config),
        "self_attn.k_proj": interleaved(layer.k, config),
        "self_attn.v_proj": layer.v,
        "self_attn.o_proj": layer.out,
        "post_attention_layernorm": layer.ffn_norm,
        "mlp.gate_proj": layer.gate,
        "mlp.up_proj": layer.up,
        "mlp.down_proj": layer.down,
    }
