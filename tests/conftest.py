"""Small real things most tests need: a tokenizer, and models of the smoke preset."""

import dataclasses
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from tinymemorylm.config import Recipe, load_recipe, preset, shipped_recipe
from tinymemorylm.corpus.storyworld import conversations, stories
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Message, Tokenizer, train_tokenizer

# The same examples every time, on a machine however busy.
settings.register_profile("same", derandomize=True, deadline=None)
settings.load_profile("same")


@pytest.fixture(scope="session")
def texts() -> list[str]:
    return [story.text for story in stories(11, 60_000)]


@pytest.fixture(scope="session")
def chats() -> list[list[Message]]:
    return [[Message(*turn) for turn in chat.turns] for chat in conversations(12, 20_000)]


@pytest.fixture(scope="session")
def tokenizer(texts: list[str]) -> Tokenizer:
    return train_tokenizer(texts, 512)


@pytest.fixture
def model() -> Transformer:
    return initialise(Transformer(preset("smoke")), 3).eval()


@pytest.fixture
def random_tokens() -> torch.Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randint(0, 512, (2, 200), generator=generator)


@pytest.fixture(scope="session")
def tiny_recipe() -> Recipe:
    """The smoke recipe cut to seconds: a few steps in each phase, all objectives on."""
    recipe = load_recipe(shipped_recipe("smoke"))
    short = {"batch_size": 4, "sequence_length": 64, "checkpoint_every": 2, "sample_every": 4}
    return dataclasses.replace(
        recipe,
        data=("storyworld:1:40KB",),
        chat_data=("storyworld:2:20KB",),
        pretrain=dataclasses.replace(
            recipe.pretrain,
            tokens=256 * 6,
            validate_every=3,
            long_share=0.34,
            long_sequence_length=128,
            **short,
        ),
        sft=dataclasses.replace(
            recipe.sft, tokens=512 * 4, validate_every=2, **{**short, "sequence_length": 128}
        ),
    )


@pytest.fixture(scope="session")
def finished_run(tiny_recipe: Recipe, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model directory made by a whole tiny run."""
    from tinymemorylm.report.run_report import report_run
    from tinymemorylm.training.phases import train

    run = tmp_path_factory.mktemp("run") / "tiny"
    train(tiny_recipe, run, device="cpu")
    report_run(run)
    return run
