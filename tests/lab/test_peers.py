"""The plain GPT is nanoGPT's: its size, its schedule, its loss."""

import math

import pytest
import torch

from tinymemorylm.config import preset
from tinymemorylm.errors import InputError
from tinymemorylm.lab.peers import (
    GPT,
    GPTConfig,
    gpt_learning_rate,
    gpt_optimizer,
    gpt_step,
    ministral,
)

SMALL = GPTConfig(vocab_size=20, n_layers=2, n_heads=2, width=16, block=8)


def test_the_published_recipe_has_0_8_million_parameters():
    model = GPT(GPTConfig(vocab_size=65))
    without_positions = sum(p.numel() for p in model.parameters()) - 64 * 128
    assert without_positions == 4 * (12 * 128**2 + 2 * 128) + 65 * 128 + 128


def test_it_sees_the_past_alone():
    torch.manual_seed(0)
    model, tokens = GPT(SMALL), torch.randint(20, (1, 8))
    changed = tokens.clone()
    changed[0, 5] = (changed[0, 5] + 1) % 20
    a, b = model(tokens)[0], model(changed)[0]
    assert torch.equal(a[:5], b[:5]) and not torch.equal(a[5], b[5])


def test_it_begins_at_chance_and_learns():
    torch.manual_seed(0)
    model = GPT(SMALL)
    optimizer, tokens = gpt_optimizer(model), torch.randint(20, (4, 9))
    losses = [gpt_step(model, optimizer, tokens, 1e-2) for _ in range(30)]
    assert losses[0] == pytest.approx(math.log(20), abs=0.05)
    assert losses[-1] < 1.5


def test_the_schedule_is_nanogpts():
    rates = [gpt_learning_rate(SMALL, step, 2000) for step in (0, 99, 100, 1050, 2000, 3000)]
    assert rates == pytest.approx([1e-3 / 101, 1e-3 * 100 / 101, 1e-3, 5.5e-4, 1e-4, 1e-4])


def test_weight_decay_is_on_matrices_and_embeddings():
    decayed, others = gpt_optimizer(GPT(SMALL)).param_groups
    assert decayed["weight_decay"] == 0.1 and others["weight_decay"] == 0
    assert all(p.dim() == 2 for p in decayed["params"]) and len(others["params"]) == 5


def test_a_missing_library_is_an_input_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'tinymemorylm\[export\]'"):
        ministral(preset("haiku-literal"))
