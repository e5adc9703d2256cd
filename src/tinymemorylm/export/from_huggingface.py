"""The way back: a model directory of ours from a `MinistralForCausalLM` directory.

In: what `huggingface` wrote, or such a model changed elsewhere. Out: the same weights in our form,
bit for bit: made into ours, exported again in memory and compared.
"""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from tinymemorylm.config import ModelConfig
from tinymemorylm.errors import InputError
from tinymemorylm.export.huggingface import OURS, check_free, named_weights
from tinymemorylm.export.source import nearest_preset
from tinymemorylm.export.unrolled import gathered, unroll
from tinymemorylm.model.account import parameter_account
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import Weights, save_weights, write_config
from tinymemorylm.progress import log
from tinymemorylm.tokenizer import Tokenizer
from tinymemorylm.validation import from_mapping

Tensors = dict[str, Tensor]


def import_huggingface(folder: Path, out: Path) -> None:
    """Write the model directory. An export of ours comes back whole, its horizons included.

    Of other directories of this architecture, such as a fine-tuned export, tied layers are found
    by comparing them. Raises InputError for one that is damaged or that ours can't express.
    """
    check_free(out)
    values = _read_json(folder / "config.json")
    tokenizer = Tokenizer.load(folder / "tokenizer.json")
    given = _read_tensors(folder / "model.safetensors")
    kept = folder / OURS
    model, details, weights = None, {}, "model"
    if (kept / "config.json").exists():
        details = _read_json(kept / "config.json")
        model = _as_exported(details, given, _read_tensors(kept / "weights.safetensors"), kept)
        weights: Weights = details.get("exported_weights", "model")
        if model is None:
            log(f"{folder}: its weights have changed since the export; further horizons left out")
    if model is None:
        model, details = _as_found(folder, values, given), {}
    _write(out, model, tokenizer, details, weights)


def _as_exported(details: dict[str, Any], given: Tensors, kept: Tensors, where: Path):
    """The model an export was made of; None if its weights have changed since."""
    config = from_mapping(ModelConfig, details.get("architecture", {}), f"{where}/config.json")
    return _built(config, given, kept)


def _as_found(folder: Path, values: dict[str, Any], given: Tensors) -> Transformer:
    """A model with a dense embedding and as much tied as is equal."""
    config = _tied(_config(folder, values), given)
    output, scaled = _get(given, "lm_head.weight"), _get(given, "model.embed_tokens.weight")
    scale = _scale(output, scaled)
    model = None
    if scale is not None:
        model = _built(config, given, {"embedding.weight": output, "embedding_scale": scale})
    if model is None:
        raise InputError(
            f"{folder}: its input and output embeddings differ by more than a scale, and ours are "
            "tied; keep both frozen when fine-tuning elsewhere"
        )
    return model


def _built(config: ModelConfig, given: Tensors, rest: Tensors) -> Transformer | None:
    """Our model of these weights; None if it wouldn't export to them again.

    The embedding, which export multiplies, may differ in its last bits between machines.
    """
    model = Transformer(config)
    try:
        model.load_state_dict({**_blocks(config, given), **rest})
    except RuntimeError:
        return None
    again = named_weights(unroll(model))
    embeddings = {"model.embed_tokens.weight", "lm_head.weight"}
    same = all(
        torch.allclose(again[name], given[name], rtol=1e-5, atol=1e-7)
        if name in embeddings and config.embedding_rank is not None
        else torch.equal(again[name], given[name])
        for name in again
    )
    return model if same else None


def _blocks(config: ModelConfig, given: Tensors) -> Tensors:
    """Blocks, feed-forwards and final norm by our names; of tied layers the first is taken."""
    weights = {"final_norm.weight": _get(given, "model.norm.weight")}
    for i in reversed(range(config.n_logical_layers)):
        block = config.block_index(i)
        to, ffn = f"blocks.{block}", f"ffns.{block % config.n_unique_ffns}"
        layer = {
            name: _get(given, f"model.layers.{i}.{name}.weight")
            for name in (*ATTENTION, *FEED_FORWARD)
        }
        q, k = (gathered(layer[f"self_attn.{name}_proj"], config) for name in "qk")
        gate, up = layer["mlp.gate_proj"], layer["mlp.up_proj"]
        weights |= {
            f"{to}.attention_norm.weight": layer["input_layernorm"],
            f"{to}.attention.qkv.weight": torch.cat((q, k, layer["self_attn.v_proj"])),
            f"{to}.attention.out.weight": layer["self_attn.o_proj"],
            f"{to}.ffn_norm.weight": layer["post_attention_layernorm"],
            f"{ffn}.gate_up.weight": torch.cat((gate, up)),
            f"{ffn}.down.weight": layer["mlp.down_proj"],
        }
    return weights


ATTENTION = (
    "input_layernorm",
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    "post_attention_layernorm",
)
FEED_FORWARD = ("mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


def _get(tensors: Tensors, name: str) -> Tensor:
    if name not in tensors:
        raise InputError(f"its model.safetensors has no {name}: not a MinistralForCausalLM")
    return tensors[name]


# ---------------------------------------------------------------- a model changed elsewhere


def _config(folder: Path, values: dict[str, Any]) -> ModelConfig:
    """The architecture, nothing tied yet. Raises InputError for what ours can't express."""
    path = folder / "config.json"
    if values.get("model_type") != "ministral":
        raise InputError(f"{path}: model_type {values.get('model_type')!r}, not ministral")
    try:
        rope, kinds = values["rope_parameters"], values["layer_types"]
        n_layers, head_dim = values["num_hidden_layers"], values["head_dim"]
        rotary_dims = 2 * int(rope["partial_rotary_factor"] * head_dim // 2)
        full = [i for i, kind in enumerate(kinds, start=1) if kind == "full_attention"]
        config = ModelConfig(
            vocab_size=values["vocab_size"],
            d_model=values["hidden_size"],
            n_heads=values["num_attention_heads"],
            n_kv_heads=values["num_key_value_heads"],
            d_ff=values["intermediate_size"],
            n_logical_layers=n_layers,
            n_unique_layers=n_layers,
            n_unique_ffns=n_layers,
            sliding_window=values["sliding_window"],
            global_every=full[0] if full else n_layers + 1,
            context_length=values["max_position_embeddings"],
            rotary_dims=rotary_dims,
            rope_theta=rope["rope_theta"] ** (rotary_dims / head_dim),
            norm_eps=values["rms_norm_eps"],
            mtp_horizons=(),
        )
    except (KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{path}: not the configuration of an export: {error}") from None
    expressible = (
        rope.get("rope_type") == "proportional"
        and values.get("hidden_act") == "silu"
        and full == [i for i in range(1, n_layers + 1) if i % config.global_every == 0]
        and config.head_dim == head_dim
    )
    if not expressible:
        raise InputError(
            f"{path}: its rope_type, hidden_act, head_dim or layer_types are none of ours; nearest "
            f"preset: {nearest_preset(config)}"
        )
    return config


def _tied(config: ModelConfig, given: Tensors) -> ModelConfig:
    """The architecture with as few blocks and feed-forwards as the layers' equality allows."""
    layers = range(config.n_logical_layers)
    attention = [_digest(given, i, ATTENTION) for i in layers]
    feed_forward = [_digest(given, i, FEED_FORWARD) for i in layers]
    for n_blocks in (n for n in range(1, len(layers) + 1) if len(layers) % n == 0):
        for repeat in ("cycle", "adjacent"):
            for n_ffns in range(1, n_blocks + 1):
                tied = dataclasses.replace(
                    config, n_unique_layers=n_blocks, n_unique_ffns=n_ffns, repeat=repeat
                )
                blocks = [tied.block_index(i) for i in layers]
                ffns = [block % n_ffns for block in blocks]
                if _follows(attention, blocks) and _follows(feed_forward, ffns):
                    return tied
    return config


def _follows(digests: list[str], index: list[int]) -> bool:
    """Whether layers of one index are equal."""
    first = dict(zip(reversed(index), reversed(digests), strict=True))
    return all(first[i] == digest for i, digest in zip(index, digests, strict=True))


def _digest(given: Tensors, layer: int, parts: tuple[str, ...]) -> str:
    digest = hashlib.sha256()
    for name in parts:
        digest.update(_get(given, f"model.layers.{layer}.{name}.weight").numpy().tobytes())
    return digest.hexdigest()


def _scale(output: Tensor, scaled: Tensor) -> Tensor | None:
    """The number, (1,), by which `scaled` is `output` to the bit; None if there is none."""
    largest = int(output.abs().argmax())
    ratio = (scaled.flatten()[largest].double() / output.flatten()[largest].double()).float()
    around = [ratio, *(ratio.nextafter(torch.tensor(end)) for end in (-torch.inf, torch.inf))]
    return next((s.view(1) for s in around if torch.equal(output * s, scaled)), None)


# ---------------------------------------------------------------- files


def _read_json(path: Path) -> dict[str, Any]:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from None
    except ValueError:
        raise InputError(f"{path}: not valid JSON") from None
    if not isinstance(values, dict):
        raise InputError(f"{path}: not an object of JSON")
    return values


def _read_tensors(path: Path) -> Tensors:
    """float32 tensors by name."""
    try:
        return {name: t.float() for name, t in safetensors.torch.load_file(path).items()}
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror or error}") from None
    except SafetensorError as error:
        raise InputError(f"{path} is damaged or no safetensors file: {error}") from None


def _write(
    out: Path, model: Transformer, tokenizer: Tokenizer, details: dict[str, Any], weights: Weights
) -> None:
    config = model.config
    tokenizer.save(out / "tokenizer.json")
    save_weights(out / f"{weights}.pt", model, tokenizer.sha256)
    write_config(
        out,
        config,
        {
            "preset": details.get("preset", nearest_preset(config)),
            "tokenizer_sha256": tokenizer.sha256,
            "logit_adjustment": {},
            "parameters": parameter_account(config),
            "provenance": details.get("provenance", {}),
        },
    )
