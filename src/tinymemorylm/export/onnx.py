"""A directory for transformers.js and onnxruntime: an ONNX graph, configs and tokenizer files.

In: a `Source`. Out: `onnx/model*.onnx`, config, tokenizer files and a card; nothing in it is
fetched from anywhere else. The graph may be quantised.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from tinymemorylm.export.card import write_card
from tinymemorylm.export.huggingface import architecture, check_free, generation, write_tokenizer
from tinymemorylm.export.onnx_graph import quiet, trace
from tinymemorylm.export.source import Source, check_extra
from tinymemorylm.files import atomic_file, write_json
from tinymemorylm.progress import log

if TYPE_CHECKING:
    import onnx

Dtype = Literal["fp32", "int8", "q4"]
FILES: dict[Dtype, str] = {
    "fp32": "model.onnx",
    "int8": "model_int8.onnx",
    "q4": "model_q4.onnx",
}
"""Where transformers.js looks for each dtype."""
BITS_4_BLOCK = 16
"""Numbers to a scale and an offset; fewer of either lose more (docs/lab-notes.md)."""
USE = """```js
import {{ pipeline }} from "@huggingface/transformers";

const generate = await pipeline("text-generation", "PATH", {{ dtype: "{dtype}" }});
const messages = [{{ role: "user", content: "Hello!" }}];
const [answer] = await generate(messages, {{ max_new_tokens: 60 }});
console.log(answer.generated_text.at(-1).content);
```

`PATH` is this folder's name on the hub or on your own host (`env.localModelPath`)."""
NOTE = (
    "This directory holds the model as an ONNX graph with a key-value cache: its tied blocks are "
    "stored once, its multi-token prediction heads left out. Text that spells a control token such "
    "as `<|user|>` becomes that token here."
)


def export_onnx(source: Source, out: Path, dtypes: Sequence[Dtype] = ("fp32",)) -> None:
    """Write the directory, a graph for each dtype; the first is what transformers.js takes.

    Raises InputError if the extra isn't installed or `out` is in use.
    """
    check_extra("onnx", "onnxscript", "onnxruntime")
    check_free(out)
    log("tracing the model's graph, which takes a minute or so")
    graph = trace(source.model)
    for dtype in dtypes:
        with quiet():
            stored = QUANTISED[dtype](copy.deepcopy(graph)) if dtype in QUANTISED else graph
        with atomic_file(out / "onnx" / FILES[dtype]) as file:
            file.write(stored.SerializeToString())
    config = source.model.config
    settings = {"dtype": dtypes[0], "kv_cache_dtype": "fp32"}
    write_json(
        out / "config.json",
        {**architecture(config, source.tokenizer), "transformers.js_config": settings},
    )
    write_json(out / "generation_config.json", generation(source.tokenizer))
    write_tokenizer(source.tokenizer, config, out)
    write_card(source, out, USE.format(dtype=dtypes[0]), NOTE, library="transformers.js")


def folded(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """Weights that the graph transposes, transposed: quantisers only see constants."""
    from onnx import numpy_helper

    graph = model.graph
    weights = {tensor.name: tensor for tensor in graph.initializer}
    for node in [n for n in graph.node if n.op_type == "Transpose" and n.input[0] in weights]:
        turned = numpy_helper.to_array(weights[node.input[0]]).T.copy()
        graph.initializer.append(numpy_helper.from_array(turned, node.output[0]))
        graph.node.remove(node)
    used = {name for node in graph.node for name in node.input}
    for tensor in weights.values():
        if tensor.name not in used:
            graph.initializer.remove(tensor)
    return model


def int8(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """8-bit matrices, a scale a column; activations are quantised as they come.

    Unsigned: processors without VNNI saturate when they multiply signed 8-bit numbers.
    """
    import onnx
    from onnxruntime.quantization import QuantType, quantize_dynamic

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "int8.onnx"
        quantize_dynamic(
            folded(model),
            path,
            op_types_to_quantize=["MatMul", "Gather"],
            per_channel=True,
            weight_type=QuantType.QUInt8,
        )
        return onnx.load(path)


def q4(model: "onnx.ModelProto") -> "onnx.ModelProto":
    """4-bit matrices in blocks, float32 activations; the input embedding stays as it is."""
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    quantizer = MatMulNBitsQuantizer(
        folded(model), bits=4, block_size=BITS_4_BLOCK, is_symmetric=False
    )
    quantizer.process()
    return quantizer.model.model  # pyright: ignore[reportAttributeAccessIssue]: an ONNXModel by now


QUANTISED: dict[str, Callable[["onnx.ModelProto"], "onnx.ModelProto"]] = {"int8": int8, "q4": q4}
