import dataclasses

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymemorylm.config import PRESETS, preset
from tinymemorylm.errors import InputError
from tinymemorylm.model.cache import PREFILL_BLOCK, Cache
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer


def test_tied_layers_share_storage():
    model = Transformer(preset("haiku"))
    config = model.config
    assert len(model.blocks) == 8 and len(model.ffns) == 1
    assert [config.block_index(i) for i in range(16)] == [*range(8), *range(8)]
    adjacent = dataclasses.replace(config, repeat="adjacent")
    assert [adjacent.block_index(i) for i in range(6)] == [0, 0, 1, 1, 2, 2]
    assert not any("out" in name and "head" in name for name in model.state_dict())


def test_every_third_layer_is_global():
    config = preset("haiku")
    assert [i + 1 for i in range(16) if config.is_global(i)] == [3, 6, 9, 12, 15]


@torch.no_grad()
def test_future_tokens_never_change_past_logits(model: Transformer, random_tokens: torch.Tensor):
    before = model.logits(model(random_tokens))
    for cut in (1, 31, 32, 33, 150):
        changed = random_tokens.clone()
        changed[:, cut:] = (changed[:, cut:] + 7) % 512
        after = model.logits(model(changed))
        assert torch.equal(before[:, :cut], after[:, :cut])
        assert not torch.equal(before[:, cut:], after[:, cut:])


@torch.no_grad()
def test_a_local_stack_sees_nothing_beyond_its_windows():
    config = preset("smoke", global_every=100, n_logical_layers=3)
    model = initialise(Transformer(config), 0)
    reach = 3 * (config.sliding_window - 1)
    tokens = torch.zeros(1, 200, dtype=torch.long)
    changed = tokens.clone()
    changed[0, 0] = 9
    difference = (model(tokens) - model(changed)).abs().amax(-1)[0]
    assert difference[reach] > 0 and torch.all(difference[reach + 1 :] == 0)


@torch.no_grad()
def test_segments_are_as_if_alone(model: Transformer, random_tokens: torch.Tensor):
    segments = torch.zeros_like(random_tokens)
    segments[:, 90:] = 1
    together = model(random_tokens, segments)
    torch.testing.assert_close(together[:, :90], model(random_tokens[:, :90]))
    # Rotary positions are relative, so where a segment starts doesn't matter.
    alone = model(random_tokens[:, 90:])
    torch.testing.assert_close(together[:, 90:], alone, rtol=1e-4, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(1, PREFILL_BLOCK), min_size=1, max_size=12), st.integers(0, 5))
@torch.no_grad()
def test_cached_blocks_give_the_logits_of_one_pass(blocks: list[int], seed: int):
    config = preset("smoke", context_length=600)
    model = initialise(Transformer(config), seed)
    tokens = torch.randint(0, 512, (2, 600), generator=torch.Generator().manual_seed(seed))
    wanted = model.logits(model(tokens))
    cache = Cache(config, 2, model.final_norm.weight)
    for size in [*blocks, *[1] * 3, PREFILL_BLOCK, PREFILL_BLOCK, PREFILL_BLOCK]:
        start, stop = cache.length, min(cache.length + size, 600)
        if start == stop:
            break
        got = model.logits(model(tokens[:, start:stop], cache=cache))
        torch.testing.assert_close(got, wanted[:, start:stop], rtol=1e-4, atol=1e-5)


@torch.no_grad()
def test_one_token_at_a_time_across_the_window_boundary(
    model: Transformer, random_tokens: torch.Tensor
):
    wanted = model.logits(model(random_tokens))
    cache = Cache(model.config, 2, model.final_norm.weight)
    got = [model.logits(model(random_tokens[:, i : i + 1], cache=cache)) for i in range(200)]
    torch.testing.assert_close(torch.cat(got, 1), wanted, rtol=1e-4, atol=1e-5)


def test_local_rings_hold_a_window_and_a_block_and_no_more():
    config = preset("haiku")
    cache = Cache(config, 1, torch.empty(0))
    sizes = {layer.window: layer.capacity for layer in cache.layers}
    assert sizes == {512: 512 + PREFILL_BLOCK - 1, None: config.context_length}


def test_some_layers_only_are_those_of_a_shallower_model(
    model: Transformer, random_tokens: torch.Tensor
):
    shallow = Transformer(dataclasses.replace(model.config, n_logical_layers=3)).eval()
    shallow.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(model(random_tokens, n_layers=3), shallow(random_tokens))
        assert torch.equal(model(random_tokens, n_layers=6), model(random_tokens))


def test_beyond_the_context_is_an_error(model: Transformer):
    with pytest.raises(InputError, match="257 tokens exceed the context of 256"):
        model(torch.zeros(1, 257, dtype=torch.long))


def test_initial_logits_are_near_uniform():
    for name in PRESETS:
        model = initialise(Transformer(preset(name)), 0)
        with torch.no_grad():
            logits = model.logits(model(torch.arange(100)[None]))
        assert 0.1 < logits.std() < 1, name


def test_same_seed_same_weights():
    first, second = (initialise(Transformer(preset("smoke")), 4).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_low_rank_adapters_start_from_the_trunk():
    model = initialise(Transformer(preset("smoke", mtp_rank=4)), 0)
    states = torch.randn(1, 3, 32)
    assert model.logits(states, horizon=2).shape == (1, 3, 512)
