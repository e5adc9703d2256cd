"""The decoder as one ONNX graph with a growing key-value cache.

In: a `Transformer`. Out: `input_ids, attention_mask, position_ids, past_key_values.N.key/value ->
logits, present.N.key/value`, as transformers.js names them. Tied blocks are stored once.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from tinymemorylm.config import ModelConfig
from tinymemorylm.model.attention import additive
from tinymemorylm.model.transformer import Transformer

if TYPE_CHECKING:
    import onnx

DIMENSIONS = {
    "input_ids": {0: "batch_size", 1: "sequence_length"},
    "attention_mask": {0: "batch_size", 1: "total_sequence_length"},
    "position_ids": {0: "batch_size", 1: "sequence_length"},
    "past_key_values": {0: "batch_size", 2: "past_sequence_length"},
    "logits": {0: "batch_size", 1: "sequence_length"},
    "present": {0: "batch_size", 2: "total_sequence_length"},
}
"""Names of the sizes that vary; transformers.js makes the empty cache by them."""
LARGEST = 1 << 30
"""Elements of the largest weights compared."""


class Growing:
    """A layer's cache while tracing: what came before, put in front of what comes now."""

    def __init__(self, k: Tensor, v: Tensor, mask: Tensor) -> None:
        self.k, self.v, self.mask = k, v, mask

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k, v: (batch, n_kv_heads, new, head_dim). Returns all keys and values, and the mask."""
        self.k, self.v = torch.cat((self.k, k), dim=2), torch.cat((self.v, v), dim=2)
        return self.k, self.v, self.mask


class GraphDecoder(nn.Module):
    """The decoder with all it remembers as inputs and outputs."""

    def __init__(self, model: Transformer) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, position_ids: Tensor, *past: Tensor
    ) -> tuple[Tensor, ...]:
        """input_ids, position_ids: (batch, new); attention_mask: (batch, past + new), 0 for
        padding; past: key and value of each layer in turn, (batch, n_kv_heads, past, head_dim).

        Returns logits (batch, new, vocab_size), then keys and values of past + new.
        """
        model, config = self.model, self.model.config
        full, local = masks(attention_mask, input_ids.shape[1], config.sliding_window)
        cos, sin = model.cos[position_ids][:, None], model.sin[position_ids][:, None]
        x = model.embedding(input_ids)
        if config.embedding_rank is not None:
            x = model.embedding_projection(x)
        x = x * model.embedding_scale
        present: list[Tensor] = []
        for i in range(config.n_logical_layers):
            block = config.block_index(i)
            cache = Growing(past[2 * i], past[2 * i + 1], full if config.is_global(i) else local)
            ffn = model.ffns[block % config.n_unique_ffns]
            x = model.blocks[block](x, ffn, cos, sin, mask=None, cache=cache)
            present += [cache.k, cache.v]
        return model.logits(x), *present


def masks(attention_mask: Tensor, n_new: int, window: int) -> tuple[Tensor, Tensor]:
    """What the last n_new positions may see, all of it and within the window.

    attention_mask: (batch, past + new). Returns additive masks, (batch, 1, n_new, past + new). A
    padded query sees itself, lest it see nothing.
    """
    total = attention_mask.shape[1]
    queries = torch.arange(n_new) + (total - n_new)
    distance = queries[:, None] - torch.arange(total)
    allowed = (distance >= 0) & (attention_mask[:, None, None, :] > 0) | (distance == 0)
    return additive(allowed), additive(allowed & (distance < window))


def names(config: ModelConfig) -> tuple[list[str], list[str]]:
    """Of the graph's inputs and outputs."""
    layers = [(i, part) for i in range(config.n_logical_layers) for part in ("key", "value")]
    past = [f"past_key_values.{i}.{part}" for i, part in layers]
    present = [f"present.{i}.{part}" for i, part in layers]
    return ["input_ids", "attention_mask", "position_ids", *past], ["logits", *present]


def trace(model: Transformer) -> "onnx.ModelProto":
    """The graph. Traced at sizes above 1: the exporter takes a size of 1 for a constant."""
    from onnx_ir.passes.common import DeduplicateInitializersPass

    config = model.config
    batch, new, before = 2, 3, 5
    past_shape = (batch, config.n_kv_heads, before, config.head_dim)
    inputs = (
        torch.zeros(batch, new, dtype=torch.long),
        torch.ones(batch, before + new, dtype=torch.long),
        torch.arange(before, before + new).expand(batch, new).clone(),
        *(torch.zeros(past_shape) for _ in range(2 * config.n_logical_layers)),
    )
    auto = torch.export.Dim.AUTO
    tokens, past = {0: auto, 1: auto}, {0: auto, 2: auto}
    given, found = names(config)
    with quiet():
        traced = torch.onnx.export(
            GraphDecoder(model).eval(),
            inputs,
            dynamo=True,
            dynamic_shapes=(tokens, tokens, tokens, (past,) * (len(given) - 3)),
            input_names=given,
            output_names=found,
            verbose=False,
        )
        assert traced is not None
        # Small tied matrices, transposed for each layer that uses them, are one again.
        DeduplicateInitializersPass(size_limit=LARGEST)(traced.model)
    return _tidy(traced.model_proto)


def _tidy(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Name the varying sizes; drop the tracer's notes, which are longer than the graph."""
    graph = model.graph
    for value in (*graph.input, *graph.output):
        for place, name in DIMENSIONS[value.name.split(".")[0]].items():
            value.type.tensor_type.shape.dim[place].dim_param = name
    for node in graph.node:
        node.ClearField("metadata_props")
        node.ClearField("doc_string")
    for noted in (model, graph):
        noted.ClearField("metadata_props")
    graph.ClearField("value_info")
    return model


@contextmanager
def quiet() -> Iterator[None]:
    """Without the exporting libraries' own chatter, and their use of each other's old names."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            yield
    finally:
        logging.disable(before)
