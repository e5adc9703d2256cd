"""The ONNX directory: the graph's inputs and outputs, padding, sizes; transformers.js's layout."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tinymemorylm.errors import InputError
from tinymemorylm.export.onnx import FILES, export_onnx
from tinymemorylm.export.onnx_graph import GraphDecoder, masks, names
from tinymemorylm.export.source import Source

NEEDED = ("transformers", "onnx", "onnxscript", "onnxruntime", "gguf", "xllamacpp")
needs_programs = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="not all programs are installed"
)


@pytest.fixture(scope="session")
def folder(report: dict[str, Any], exports: Path) -> Path:
    return exports / "onnx"


def sizes(values: Any) -> dict[str, list[str | int]]:
    return {
        value.name: [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]
        for value in values
    }


@needs_programs
def test_the_directory_is_what_transformers_js_looks_for(folder: Path):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert found >= {f"onnx/{name}" for name in FILES.values()}
    assert found >= {"config.json", "generation_config.json", "tokenizer.json", "README.md"}
    config = json.loads((folder / "config.json").read_text())
    assert config["transformers.js_config"]["dtype"] == "fp32"
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    assert "<|assistant|>" in settings["chat_template"]
    assert "@huggingface/transformers" in (folder / "README.md").read_text()


@needs_programs
@pytest.mark.parametrize("file", FILES.values())
def test_inputs_and_outputs_have_the_names_and_sizes_by_which_caches_are_made(
    folder: Path, file: str, parity_source: Source
):
    import onnx

    config = parity_source.model.config
    graph = onnx.load(folder / "onnx" / file).graph
    given, found = names(config)
    inputs, outputs = sizes(graph.input), sizes(graph.output)
    assert list(inputs) == given and list(outputs) == found
    past = ["batch_size", config.n_kv_heads, "past_sequence_length", config.head_dim]
    assert all(inputs[name] == past for name in given[3:])
    assert outputs["logits"] == ["batch_size", "sequence_length", config.vocab_size]
    assert inputs["attention_mask"] == ["batch_size", "total_sequence_length"]


@needs_programs
def test_tied_weights_are_stored_once(folder: Path, parity_source: Source):
    import onnx

    stored = onnx.load(folder / "onnx" / "model.onnx").graph.initializer
    used = [p for n, p in parity_source.model.named_parameters() if not n.startswith("horizons")]
    tables = parity_source.model.cos.numel() + parity_source.model.sin.numel()
    once = sum(p.numel() for p in used) + tables
    embedding = parity_source.model.embedding.weight.numel()  # may be there transposed too
    assert once - 200 <= sum(int(np.prod(t.dims)) for t in stored) < once + embedding * 1.2


@needs_programs
def test_quantised_graphs_are_smaller(folder: Path):
    size = {dtype: (folder / "onnx" / name).stat().st_size for dtype, name in FILES.items()}
    assert max(size["int8"], size["q4"]) < size["fp32"]


@needs_programs
def test_a_padded_batch_answers_as_its_rows_do(folder: Path, parity_source: Source):
    import onnxruntime

    config, model = parity_source.model.config, parity_source.model
    session = onnxruntime.InferenceSession(str(folder / "onnx" / "model.onnx"))
    long = min(config.context_length, config.sliding_window + 20)
    generator = np.random.default_rng(2)
    ids = generator.integers(6, config.vocab_size, (2, long))
    mask = np.ones_like(ids)
    mask[1, : long - 5] = 0  # the second row is 5 tokens after padding
    positions = np.maximum(mask.cumsum(1) - 1, 0)
    empty = np.zeros((2, config.n_kv_heads, 0, config.head_dim), np.float32)
    given, _ = names(config)
    values = [ids, mask, positions, *[empty] * (len(given) - 3)]
    logits = session.run(["logits"], dict(zip(given, values, strict=True)))[0]
    with torch.no_grad():
        for row, start in ((0, 0), (1, long - 5)):
            alone = model.logits(model(torch.tensor(ids[row : row + 1, start:])))[0]
            assert np.allclose(logits[row, start:], alone.numpy(), atol=2e-3)
    assert np.isfinite(logits).all()


def test_the_traced_decoder_is_the_model_whatever_the_steps(smoke: Source, random_tokens):
    model, config = smoke.model, smoke.model.config
    tokens = random_tokens % config.vocab_size
    decoder = GraphDecoder(model)
    past = [torch.zeros(2, config.n_kv_heads, 0, config.head_dim)] * (2 * config.n_logical_layers)
    pieces, seen = [], 0
    with torch.no_grad():
        for n_new in (90, 1, 1, 108):
            new = tokens[:, seen : seen + n_new]
            positions = torch.arange(seen, seen + n_new).expand(2, -1)
            mask = torch.ones(2, seen + n_new, dtype=torch.long)
            logits, *past = decoder(new, mask, positions, *past)
            pieces.append(logits)
            seen += n_new
        expected = model.logits(model(tokens))
    assert torch.allclose(torch.cat(pieces, 1), expected, atol=1e-3)


def test_masks_keep_to_window_and_padding():
    full, local = masks(torch.tensor([[0, 1, 1, 1, 1]]), 2, 2)
    seen = (full[0, 0] == 0).tolist(), (local[0, 0] == 0).tolist()
    assert seen[0] == [[False, True, True, True, False], [False, True, True, True, True]]
    assert seen[1] == [[False, False, True, True, False], [False, False, False, True, True]]


@needs_programs
def test_a_place_in_use_is_left_alone(smoke: Source, tmp_path: Path):
    (tmp_path / "config.json").write_text("mine")
    with pytest.raises(InputError, match="is there already"):
        export_onnx(smoke, tmp_path)
    assert (tmp_path / "config.json").read_text() == "mine"
