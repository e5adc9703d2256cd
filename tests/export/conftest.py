"""Models to export, and one comparison of all their exports for the tests that look at it.

In: nothing, or EXPORT_PARITY_MODEL, a trained model directory to compare instead.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from random_models import sharp_model, write_model

from tinymemorylm.config import preset
from tinymemorylm.export.source import Source, read_source
from tinymemorylm.tokenizer import Tokenizer, train_tokenizer

N_TOKENS, N_NEW = 200, 24
"""Of the text that all programs score, and of each continuation."""


@pytest.fixture(scope="session")
def merging_tokenizer(texts: list[str]) -> Tokenizer:
    """One with merges; a plain English text makes none."""
    return train_tokenizer([*texts, "café, “naïve” — 日本語 日本 " * 200], 512)


@pytest.fixture(scope="session")
def make_source(
    merging_tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Source]:
    """A source of a preset with fields changed."""

    def make(name: str = "smoke", tokenizer: Tokenizer | None = None, **changes: Any) -> Source:
        tokenizer = tokenizer or merging_tokenizer
        config = preset(name, **{"vocab_size": tokenizer.vocab_size, **changes})
        folder = tmp_path_factory.mktemp("models") / name
        return read_source(write_model(folder, sharp_model(config), tokenizer))

    return make


@pytest.fixture(scope="session")
def smoke(make_source: Callable[..., Source]) -> Source:
    """The smoke preset with a factorised embedding, so that all of `haiku` is there, small."""
    return make_source(embedding_rank=24)


@pytest.fixture(scope="session")
def parity_source(smoke: Source) -> Source:
    """The model to compare between programs: a trained one where it is named."""
    named = os.environ.get("EXPORT_PARITY_MODEL")
    return read_source(Path(named)) if named else smoke


@pytest.fixture(scope="session")
def exports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exports")


@pytest.fixture(scope="session")
def report(parity_source: Source, exports: Path) -> dict[str, Any]:
    """The benchmark's comparison, its exports left in `exports`."""
    from export_parity import measure

    return measure(parity_source, exports, n_tokens=N_TOKENS, n_new=N_NEW)
