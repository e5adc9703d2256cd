import pytest
import torch

from tinymemorylm.config import PRESETS, preset
from tinymemorylm.model.account import flops_per_token, kv_cache_bytes, parameter_account
from tinymemorylm.model.cache import Cache
from tinymemorylm.model.transformer import Transformer


def test_the_cards_table_is_1_356_545_parameters_before_mtp():
    literal = parameter_account(preset("haiku-literal"))
    assert literal["inference"] == 1_356_545
    assert literal["by_part"]["embedding"] == 273_025


def test_haiku_is_at_most_760_000_with_everything():
    assert parameter_account(preset("haiku"))["total"] == 748_001


@pytest.mark.parametrize("name", PRESETS)
def test_the_account_adds_up_to_the_weights_there_are(name: str):
    account = parameter_account(preset(name))
    model = Transformer(preset(name))
    assert account["total"] == sum(p.numel() for p in model.parameters())
    assert account["total"] == sum(account["by_part"].values())


def test_cache_bytes_are_those_of_a_real_cache():
    config = preset("smoke")
    assert kv_cache_bytes(config) == Cache(config, 1, torch.empty(0)).n_bytes


def test_flops_count_tied_weights_every_time_they_run():
    once = flops_per_token(preset("smoke", n_logical_layers=3))
    twice = flops_per_token(preset("smoke", n_logical_layers=6))
    unembed = 2 * 512 * 32
    assert twice - unembed == 2 * (once - unembed)
