"""One GGUF file: what llama.cpp runs, and the programs around it.

In: a `Source`. Out: architecture `mimo2` (dense, no sinks), which has our partial RoPE and takes
local and global layers in any order; tokenizer and chat template are in the file.
"""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from torch import Tensor

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.export.source import Source, check_extra, nearest_preset
from tinymemorylm.export.unrolled import Layer, Unrolled, unroll
from tinymemorylm.files import replaced_file
from tinymemorylm.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS

if TYPE_CHECKING:
    from gguf import GGUFWriter

ARCHITECTURE = "mimo2"
Type = Literal["f32", "f16", "q8_0"]
BLOCK = 32
"""q8_0 stores 32 numbers of a row by one scale."""
NORMAL, CONTROL = 1, 3
"""llama.cpp's token types."""
NO_MERGES = [("\xff", "\xff")]
"""llama.cpp refuses an empty list: a merge of two bytes that no UTF-8 holds."""


def export_gguf(source: Source, out: Path, type: Type = "f16") -> None:
    """Write the file, its matrices as `type`, its norms as float32.

    Raises InputError if the extra isn't installed, `out` is a folder, or q8_0 doesn't divide a row.
    """
    check_extra("gguf")
    from gguf import GGUFWriter

    config = source.model.config
    if out.is_dir():
        raise InputError(f"{out} is a folder; name a file, such as {out / source.name}.gguf")
    if type == "q8_0":
        _check_rows(config)
    with replaced_file(out) as temporary:
        writer = GGUFWriter(temporary, ARCHITECTURE)
        _describe(writer, source, type)
        _add_tokenizer(writer, source)
        for name, tensor in named_weights(unroll(source.model)).items():
            _add_tensor(writer, name, tensor, type)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _check_rows(config: ModelConfig) -> None:
    for name in ("d_model", "d_ff"):
        if (width := getattr(config, name)) % BLOCK:
            raise InputError(
                f"{name} {width} is not a multiple of {BLOCK}, which q8_0 needs: use --type f16, "
                f"or the nearest preset, {nearest_preset(config)}"
            )


def _describe(writer: "GGUFWriter", source: Source, type: Type) -> None:
    """Names and hyper-parameters. `mimo2` asks for experts and gets none."""
    from gguf import LlamaFileType

    config: ModelConfig = source.model.config
    file_types = {
        "f32": LlamaFileType.ALL_F32,
        "f16": LlamaFileType.MOSTLY_F16,
        "q8_0": LlamaFileType.MOSTLY_Q8_0,
    }
    writer.add_name(source.name)
    writer.add_file_type(file_types[type])
    writer.add_quantization_version(2)
    writer.add_context_length(config.context_length)
    writer.add_embedding_length(config.d_model)
    writer.add_block_count(config.n_logical_layers)
    writer.add_feed_forward_length(config.d_ff)
    writer.add_expert_feed_forward_length(config.d_ff)
    writer.add_expert_count(0)
    writer.add_expert_used_count(0)
    writer.add_head_count(config.n_heads)
    writer.add_head_count_kv(config.n_kv_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.norm_eps)
    writer.add_rope_dimension_count(config.rotary_dims)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_freq_base_swa(config.rope_theta)
    writer.add_sliding_window(config.sliding_window)
    writer.add_sliding_window_pattern(
        [not config.is_global(i) for i in range(config.n_logical_layers)]
    )
    writer.add_vocab_size(config.vocab_size)


def _add_tokenizer(writer: "GGUFWriter", source: Source) -> None:
    """`llama-bpe` is Llama 3's pre-tokenizer, which takes whole words before any merge.

    A model that begins the user's turn has ended its own: llama.cpp stops there too.
    """
    tokenizer = source.tokenizer
    document = json.loads((source.folder / "tokenizer.json").read_text(encoding="utf-8"))
    model: dict[str, Any] = document["model"]
    types = [CONTROL if id < len(SPECIAL_TOKENS) else NORMAL for id in range(tokenizer.vocab_size)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(list(model["vocab"]))
    writer.add_token_types(types)
    writer.add_token_merges([" ".join(pair) for pair in model["merges"] or NO_MERGES])
    writer.add_bos_token_id(tokenizer.bos_id)
    writer.add_eos_token_id(tokenizer.eos_id)
    writer.add_eot_token_id(tokenizer.user_id)
    writer.add_pad_token_id(tokenizer.pad_id)
    writer.add_add_bos_token(True)
    writer.add_chat_template(CHAT_TEMPLATE)


def _add_tensor(writer: "GGUFWriter", name: str, tensor: Tensor, type: Type) -> None:
    from gguf import GGMLQuantizationType, quants

    stored = GGMLQuantizationType[type.upper() if tensor.dim() == 2 else "F32"]
    writer.add_tensor(name, quants.quantize(tensor.contiguous().numpy(), stored), raw_dtype=stored)


def named_weights(dense: Unrolled) -> dict[str, Tensor]:
    """The weights by llama.cpp's names; its rotary pairs lie as ours do."""
    weights = {
        "token_embd": dense.input_embedding,
        "output_norm": dense.final_norm,
        "output": dense.output_embedding,
    }
    for i, layer in enumerate(dense.layers):
        weights |= {f"blk.{i}.{name}": tensor for name, tensor in _named_layer(layer).items()}
    return {f"{name}.weight": tensor for name, tensor in weights.items()}


def _named_layer(layer: Layer) -> dict[str, Tensor]:
    return {
        "attn_norm": layer.attention_norm,
        "attn_q": layer.q,
        "attn_k": layer.k,
        "attn_v": layer.v,
        "attn_output": layer.out,
        "ffn_norm": layer.ffn_norm,
        "ffn_gate": layer.gate,
        "ffn_up": layer.up,
        "ffn_down": layer.down,
    }
