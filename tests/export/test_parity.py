"""Every export is the same model: the benchmark's own comparison, on small random weights.

`EXPORT_PARITY_MODEL=DIR` points the same tests at a trained model directory.
"""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from random_models import with_window

from export_engines import Ours
from export_parity import TARGETS, compare, markdown, measure, reference
from tinymemorylm.export.source import Source

NEEDED = ("transformers", "onnx", "onnxscript", "onnxruntime", "gguf", "xllamacpp")
pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, NEEDED)), reason="not all programs are installed"
)
FLOAT_TOLERANCE = {"transformers": 2e-3, "llama.cpp f32": 2e-3, "onnxruntime fp32": 2e-3}
"""Nats between log-probabilities; float16 weights and quantised ones have a cost instead."""
MOST_COST = {"llama.cpp q8_0": 0.02, "onnxruntime int8": 0.03, "onnxruntime q4": 0.2}
"""Bits per byte, relative; random weights lose more than trained ones."""


@pytest.fixture(params=[target.name for target in TARGETS])
def row(report: dict[str, Any], request: pytest.FixtureRequest) -> dict[str, Any]:
    return next(row for row in report["rows"] if row["target"] == request.param)


def test_the_text_crosses_the_window_and_a_wrong_window_would_show(parity_source: Source):
    ref = reference(parity_source, None, 200, 1)
    config = parity_source.model.config
    if len(ref.ids) <= config.sliding_window:
        pytest.skip("the fast text is shorter than this model's window")
    wrong = Ours(
        Source(Path(), "model", with_window(parity_source.model, 31), ref.engine.tokenizer)
    )
    difference = np.abs(wrong.logprobs(ref.ids[:-1]) - ref.logprobs)
    assert difference[:31].max() < 1e-3
    assert difference[config.sliding_window :].max() > 10 * max(FLOAT_TOLERANCE.values())


def test_log_probabilities_and_bits_per_byte_agree(row: dict[str, Any]):
    if row["target"] in FLOAT_TOLERANCE:
        assert row["max_logprob_difference"] < FLOAT_TOLERANCE[row["target"]]
    assert abs(row["bits_per_byte_change"]) < (0.001 if row["exact"] else MOST_COST[row["target"]])


def test_greedy_continuations_part_only_within_noise(row: dict[str, Any]):
    assert row["greedy_prompts"] == 20
    assert row["greedy_divergences_beyond_noise"] == 0
    if row["target"] in FLOAT_TOLERANCE:
        assert row["greedy_divergences"] <= 1


def test_ids_of_odd_strings_and_of_chats_are_the_same(row: dict[str, Any]):
    assert row["odd_strings"] == 20 and row["odd_strings_with_other_ids"] == 0
    assert row["chats"] == 3 and row["chats_with_other_ids"] == 0


def test_the_table_has_a_line_for_every_target(report: dict[str, Any]):
    lines = markdown(report).splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[4:]] == [t.name for t in TARGETS]
    assert all(row["bytes"] > 0 for row in report["rows"])


def test_a_model_differs_from_itself_in_nothing_and_from_another_window_in_much(
    make_source: Callable[..., Source],
):
    source = make_source()
    ref = reference(source, "The cat sat on the mat. " * 20, 80, 8)
    same = compare(ref, Ours(source), 8)
    assert same["max_logprob_difference"] == 0 and same["greedy_divergences"] == 0
    other = make_source(sliding_window=8)
    different = compare(ref, Ours(other), 8)
    assert different["max_logprob_difference"] > 1


@pytest.mark.slow
def test_all_of_haiku_agrees_over_1400_tokens(make_source: Callable[..., Source], tmp_path: Path):
    report = measure(make_source("haiku"), tmp_path)
    assert report["text_tokens"] == 1400 and report["new_tokens"] == 64
    for row in report["rows"]:
        assert row["greedy_divergences_beyond_noise"] == 0
        if row["exact"]:
            assert abs(row["bits_per_byte_change"]) < 0.001
        if row["target"] in FLOAT_TOLERANCE:
            assert row["max_logprob_difference"] < FLOAT_TOLERANCE[row["target"]]
