"""The GGUF file: what it says of itself, and that llama.cpp chats from it alone."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tinymemorylm.errors import InputError
from tinymemorylm.export.gguf import export_gguf, named_weights
from tinymemorylm.export.source import Source
from tinymemorylm.export.unrolled import unroll
from tinymemorylm.language_model import LanguageModel
from tinymemorylm.tokenizer import CHAT_TEMPLATE, SPECIAL_TOKENS, Tokenizer

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("gguf") is None, reason="the export extra is not installed"
)


def fields(path: Path) -> dict[str, Any]:
    import gguf

    return {name: field.contents() for name, field in gguf.GGUFReader(path).fields.items()}


def test_tokenizer_template_and_architecture_are_in_the_file(smoke: Source, tmp_path: Path):
    path = tmp_path / "a.gguf"
    export_gguf(smoke, path)
    found = fields(path)
    assert found["general.architecture"] == "mimo2"
    assert found["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert len(found["tokenizer.ggml.tokens"]) == smoke.tokenizer.vocab_size
    assert tuple(found["tokenizer.ggml.tokens"][: len(SPECIAL_TOKENS)]) == SPECIAL_TOKENS
    assert found["tokenizer.ggml.merges"] and found["tokenizer.ggml.add_bos_token"]
    pattern = found["mimo2.attention.sliding_window_pattern"]
    assert [not local for local in pattern] == [False, False, True] * 2


def test_float32_holds_every_weight_to_the_bit(smoke: Source, tmp_path: Path):
    import gguf

    path = tmp_path / "a.gguf"
    export_gguf(smoke, path, "f32")
    stored = {tensor.name: tensor.data for tensor in gguf.GGUFReader(path).tensors}
    expected = named_weights(unroll(smoke.model))
    assert stored.keys() == expected.keys()
    assert all(np.array_equal(stored[name], expected[name].numpy()) for name in expected)


def test_smaller_types_make_smaller_files(smoke: Source, tmp_path: Path):
    sizes = []
    for type in ("f32", "f16", "q8_0"):
        export_gguf(smoke, tmp_path / "a.gguf", type)
        sizes.append((tmp_path / "a.gguf").stat().st_size)
        assert list(tmp_path.iterdir()) == [tmp_path / "a.gguf"]
    assert sizes[0] > sizes[1] > sizes[2]


def test_rows_that_q8_0_cannot_divide_are_refused(
    make_source: Callable[..., Source], tmp_path: Path
):
    source = make_source(d_ff=72)
    with pytest.raises(InputError, match=r"d_ff 72 is not a multiple of 32.* preset, smoke"):
        export_gguf(source, tmp_path / "a.gguf", "q8_0")
    assert not list(tmp_path.iterdir())
    export_gguf(source, tmp_path / "a.gguf", "f16")


def test_a_folder_is_no_place_for_a_file(smoke: Source, tmp_path: Path):
    with pytest.raises(InputError, match=r"is a folder; name a file, such as .*smoke\.gguf"):
        export_gguf(smoke, tmp_path)


def test_llama_cpp_chats_from_the_file_alone(
    make_source: Callable[..., Source], tokenizer: Tokenizer, tmp_path: Path
):
    pytest.importorskip("xllamacpp")
    from export_engines import LlamaCpp

    source = make_source(tokenizer=tokenizer)  # of plain English: without merges
    path = tmp_path / "a.gguf"
    export_gguf(source, path, "f32")
    engine = LlamaCpp(path, source.model.config.context_length, tokenizer.vocab_size)
    lm = LanguageModel(source.model, source.tokenizer)
    messages = [{"role": "system", "content": "Be kind."}, {"role": "user", "content": "Hello!"}]
    # A random model writes broken characters and control tokens: compare before any of them.
    answer = engine.ask("/v1/chat/completions", messages=messages, temperature=0, max_tokens=8)
    assert answer["usage"]["prompt_tokens"] == len(lm._prompt_ids(messages, 8))
    said = answer["choices"][0]["message"]["content"]
    ours = lm.generate(messages, temperature=0, max_new_tokens=8).text
    assert said.split("\ufffd")[0] == ours.split("\ufffd")[0]
    assert engine.encode("<|user|>hi") == tokenizer.encode("<|user|>hi")
