import dataclasses
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymemorylm.config import (
    PRESETS,
    Architecture,
    ModelConfig,
    Phase,
    Recipe,
    from_mapping,
    load_recipe,
    preset,
)
from tinymemorylm.errors import InputError
from tinymemorylm.model.account import parameter_account


@pytest.mark.parametrize("name", PRESETS)
def test_a_config_survives_the_way_through_plain_values(name: str):
    values = dataclasses.asdict(PRESETS[name])
    values["mtp_horizons"] = list(values["mtp_horizons"])  # as JSON has it
    assert from_mapping(ModelConfig, values, "x") == PRESETS[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"d_model": 130}, "d_model 130 must be a multiple of n_heads"),
        ({"n_kv_heads": 3}, "n_heads 4 must be a multiple of n_kv_heads 3"),
        ({"n_unique_layers": 5}, "n_logical_layers 16 must be a multiple"),
        ({"n_unique_ffns": 9}, "n_unique_ffns 9 must be at most"),
        ({"rotary_dims": 40}, "rotary_dims 40"),
        ({"mtp_horizons": (1, 2)}, "mtp_horizons"),
        ({"sliding_window": 0}, "sliding_window must be at least 1, not 0"),
    ],
)
def test_impossible_architectures_name_the_value(changes: dict, message: str):
    with pytest.raises(InputError, match=message):
        preset("haiku", **changes)


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("prest = 'haiku'", "prest: Unexpected keyword argument"),
        ("preset = 'sonnet'", "unknown preset 'sonnet'; choose from haiku"),
        ("[pretrain]\ntokens = 'many'", "pretrain.tokens: .* not 'many'"),
        ("[sft]\noptimizer = 'sgd'", "sft.optimizer: .* not 'sgd'"),
        ("[pretrain]\nlong_share = 2.0", "long_share must be between 0 and 1, not 2.0"),
        ("[pretrain]\nsequence_length = 4096", "sequence_length 4096 is above the context length"),
        ("spell_share = -0.1", "spell_share must be between 0 and 1"),
        ("[architecture]\nrepeet = 'cycle'", "architecture.repeet: Unexpected keyword argument"),
        ("[architecture]\nn_kv_heads = 3", "n_heads 4 must be a multiple of n_kv_heads 3"),
        ("[architecture]\nsliding_window = 0", "sliding_window must be at least 1, not 0"),
        ("a = = 1", "not valid TOML"),
        ("seed = -1", "seed must be 0 or more"),
        ("[pretrain]\nlearning_rate = nan", "learning_rate must be a finite number, not nan"),
        ("[architecture]\nd_model = 1000000000", "d_model must be at most"),
        ("seed = " + "9" * 5000, "not valid TOML"),
        ("a = " + "[" * 100_000, "not valid TOML"),
    ],
)
def test_bad_recipes_name_file_and_field(toml: str, message: str, tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text(toml)
    with pytest.raises(InputError, match=message) as error:
        load_recipe(path)
    assert "mine.toml" in str(error.value)


def test_the_cards_recipe_is_the_card_to_the_letter():
    recipe = load_recipe(Path("haiku"))
    assert (recipe.preset, recipe.vocab_size) == ("haiku", 2133)
    for phase, rate in ((recipe.pretrain, 8e-4), (recipe.sft, 2e-4)):
        assert (phase.batch_size, phase.sequence_length) == (48, 2048)
        assert (phase.learning_rate, phase.min_learning_rate) == (rate, 1e-5)
        assert (phase.warmup_steps, phase.weight_decay, phase.max_grad_norm) == (300, 0.02, 1.0)
        assert (phase.word_boost, phase.boost_anneal, phase.optimizer) == (3.0, None, "adamw")
        assert (phase.checkpoint_every, phase.sample_every) == (1000, 5000)
        assert (phase.mtp_weight, phase.prompt_weight) == (0.3, 0.0)
    assert (recipe.sft.response_boost, recipe.sft.response_boost_tokens) == (3.0, 20)


@pytest.mark.parametrize("name", ["haiku-cpu", "haiku-plus"])
def test_long_context_is_trained_not_assumed(name: str):
    recipe = load_recipe(Path(name))
    for phase in (recipe.pretrain, recipe.sft):
        assert phase.long_share >= 0.1 and phase.long_sequence_length == 2048


@given(
    rank=st.none() | st.integers(1, 40),
    mtp_rank=st.none() | st.integers(1, 40),
    horizons=st.lists(st.integers(2, 9), unique=True, max_size=3),
    heads=st.sampled_from([(1, 1), (2, 1), (4, 2), (4, 4)]),
    layers=st.sampled_from([(1, 1, 1), (6, 3, 2), (4, 4, 1)]),
)
@settings(max_examples=30, deadline=None)
def test_the_count_of_parameters_is_known_before_they_are_made(
    rank: int | None, mtp_rank: int | None, horizons: list[int], heads: tuple, layers: tuple
):
    config = preset(
        "smoke",
        d_model=48,
        rotary_dims=4,
        embedding_rank=rank,
        mtp_rank=mtp_rank,
        mtp_horizons=tuple(horizons),
        **dict(zip(("n_heads", "n_kv_heads"), heads, strict=True)),
        **dict(zip(("n_logical_layers", "n_unique_layers", "n_unique_ffns"), layers, strict=True)),
    )
    assert config.n_parameters == parameter_account(config)["total"]


def test_an_unreadable_recipe_is_a_clear_error(tmp_path: Path):
    (tmp_path / "folder.toml").mkdir()
    with pytest.raises(InputError, match=r"folder.toml can't be read: Is a directory"):
        load_recipe(tmp_path / "folder.toml")


def test_every_field_of_an_architecture_can_be_changed_but_its_vocabulary():
    fields = {field.name for field in dataclasses.fields(ModelConfig)} - {"vocab_size"}
    assert {field.name for field in dataclasses.fields(Architecture)} == fields


def test_a_recipe_changes_its_preset(tmp_path: Path):
    path = tmp_path / "mine.toml"
    path.write_text("[architecture]\nrepeat = 'adjacent'\nembedding_rank = 0\nmtp_horizons = []")
    changed = {"repeat": "adjacent", "embedding_rank": None, "mtp_horizons": ()}
    assert load_recipe(path).model() == preset("haiku", **changed)
    assert load_recipe(Path("haiku")).model() == preset("haiku")


def test_one_pass_needs_blocks_that_cycle():
    with pytest.raises(InputError, match="one_pass_share"):
        Recipe("x", architecture=Architecture(repeat="adjacent"), sft=Phase(one_pass_share=0.5))
