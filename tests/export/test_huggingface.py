"""The Transformers directory: complete, read by its own loaders, and brought back to the bit."""

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from random_models import sharp_model, write_model

from tinymemorylm import load
from tinymemorylm.config import ModelConfig, preset
from tinymemorylm.errors import InputError
from tinymemorylm.export.from_huggingface import import_huggingface
from tinymemorylm.export.huggingface import architecture, export_huggingface, named_weights
from tinymemorylm.export.source import Source, read_source
from tinymemorylm.export.unrolled import gathered, interleaved, unroll
from tinymemorylm.model_directory import load_model, read_config
from tinymemorylm.tokenizer import Tokenizer

FILES = {
    "model.safetensors",
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
    "README.md",
    "tinymemorylm",
}


@pytest.fixture
def exported(smoke: Source, tmp_path: Path) -> Path:
    export_huggingface(smoke, tmp_path / "hf")
    return tmp_path / "hf"


@pytest.fixture
def trained(finished_run: Path, tmp_path: Path) -> Path:
    """The tiny run, as if its boost had been annealed."""
    folder = tmp_path / "tiny"
    shutil.copytree(finished_run, folder, ignore=shutil.ignore_patterns("checkpoints", "shards"))
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "logit_adjustment": {}}))
    return folder


def same_weights(a: Path, b: Path) -> bool:
    mine, yours = load_model(a)[0].state_dict(), load_model(b)[0].state_dict()
    return mine.keys() == yours.keys() and all(torch.equal(mine[k], yours[k]) for k in mine)


def changed(exported: Path, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = exported / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    change(weights)
    safetensors.torch.save_file(weights, path)


# ---------------------------------------------------------------- there


def test_the_directory_is_complete_and_has_no_code(exported: Path):
    assert {path.name for path in exported.iterdir()} == FILES
    assert not list(exported.rglob("*.py"))
    assert "auto_map" not in json.loads((exported / "config.json").read_text())


def test_its_card_says_how_to_use_it_there_and_keeps_the_rest(trained: Path, tmp_path: Path):
    export_huggingface(read_source(trained), tmp_path / "hf")
    card = (tmp_path / "hf" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\n")
    assert card.count("## Use") == 1 and "from transformers import pipeline" in card
    assert "tmlm generate" not in card and "## Training" in card and "## Samples" in card
    assert (tmp_path / "hf" / "loss_curve.png").exists()


@pytest.mark.parametrize("layers", [12, 16])
def test_layer_types_have_every_third_layer_full(smoke: Source, layers: int):
    config = preset("haiku", n_logical_layers=layers, n_unique_layers=4)
    kinds = architecture(config, smoke.tokenizer)["layer_types"]
    assert [i for i, kind in enumerate(kinds, 1) if kind == "full_attention"] == list(
        range(3, layers + 1, 3)
    )


@given(st.integers(1, 64), st.data())
def test_the_rotated_share_is_never_rounded_below_our_dimensions(half: int, data: st.DataObject):
    head_dim = 2 * half
    rotary_dims = 2 * data.draw(st.integers(1, half))
    config = ModelConfig(d_model=2 * head_dim, n_heads=2, rotary_dims=rotary_dims)
    share = architecture(config, _NoTokenizer())["rope_parameters"]["partial_rotary_factor"]  # type: ignore
    assert int(share * head_dim // 2) == rotary_dims // 2 and share <= 1
    rows = torch.arange(2 * head_dim).float()[:, None] @ torch.ones(1, 3)
    moved = interleaved(rows, config)
    assert torch.equal(gathered(moved, config), rows)
    pairs = torch.arange(rotary_dims // 2)
    assert torch.equal(moved[pairs], rows[pairs])
    assert torch.equal(moved[pairs + half], rows[pairs + rotary_dims // 2])


class _NoTokenizer:
    bos_id, eos_id, pad_id = 1, 2, 0


def test_transformers_loads_every_weight_and_answers_like_us(trained: Path, tmp_path: Path):
    transformers = pytest.importorskip("transformers")
    source = read_source(trained)
    out = tmp_path / "hf"
    export_huggingface(source, out)
    transformers.utils.logging.disable_progress_bar()
    model, info = transformers.AutoModelForCausalLM.from_pretrained(out, output_loading_info=True)
    assert type(model).__name__ == "MinistralForCausalLM"
    assert not any(info.values())
    generate = transformers.pipeline("text-generation", str(out))
    settings = {"do_sample": False, "temperature": None, "top_p": None, "max_new_tokens": 12}
    lm = load(trained)
    found = generate("Once upon", return_full_text=False, **settings)[0]["generated_text"]
    assert found == lm.generate("Once upon", temperature=0, max_new_tokens=12).text
    said = generate([{"role": "user", "content": "Hello!"}], **settings)[0]["generated_text"]
    assert said[-1]["content"] == lm.chat("Hello!", temperature=0, max_new_tokens=12)


def test_transformers_pads_a_batch_without_changing_a_row(exported: Path, smoke: Source):
    transformers = pytest.importorskip("transformers")
    transformers.utils.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(exported)
    tokenizer = transformers.AutoTokenizer.from_pretrained(exported, padding_side="left")
    texts = ["The cat sat on the mat and slept. " * 5, "Hi"]
    batch = tokenizer(texts, return_tensors="pt", padding=True)
    positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)
    with torch.no_grad():
        together = model(**batch, position_ids=positions).logits[:, -1]
        for row, text in enumerate(texts):
            ids = torch.tensor([[smoke.tokenizer.bos_id, *smoke.tokenizer.encode(text)]])
            alone = smoke.model.logits(smoke.model(ids))[0, -1]
            assert torch.allclose(together[row], alone, atol=2e-3)


@pytest.mark.slow
def test_lm_eval_measures_it_offline(trained: Path, tmp_path: Path, monkeypatch):
    lm_eval = pytest.importorskip("lm_eval")
    export_huggingface(read_source(trained), tmp_path / "hf")
    (tmp_path / "pairs.jsonl").write_text(
        "\n".join(json.dumps({"text": text}) for text in ("The cat sat.", "Once upon a time."))
    )
    (tmp_path / "pairs.yaml").write_text(
        "task: pairs\ndataset_path: json\n"
        f"dataset_kwargs:\n  data_files:\n    test: {tmp_path}/pairs.jsonl\n"
        "test_split: test\noutput_type: loglikelihood_rolling\ndoc_to_text: ''\n"
        "doc_to_target: '{{text}}'\nmetric_list:\n  - metric: bits_per_byte\n"
    )
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = lm_eval.simple_evaluate(
        model="hf",
        # Rolling tasks put <bos> before the text: another of the tokenizer's would be scored.
        model_args=f"pretrained={tmp_path}/hf,dtype=float32,device=cpu,add_bos_token=False",
        tasks=["pairs"],
        task_manager=lm_eval.tasks.TaskManager(include_path=str(tmp_path)),
        bootstrap_iters=0,
    )
    lm = load(trained)
    scores = [lm.score(text) for text in ("The cat sat.", "Once upon a time.")]
    ours = sum(s.bits_per_byte * s.n_bytes for s in scores) / sum(s.n_bytes for s in scores)
    theirs = found["results"]["pairs"]["bits_per_byte,none"]
    assert theirs == pytest.approx(ours, rel=1e-3)


# ---------------------------------------------------------------- and back


def test_an_export_comes_back_as_the_same_bytes(trained: Path, tmp_path: Path):
    for weights in ("pretrain", "model"):
        export_huggingface(read_source(trained, weights), tmp_path / weights)
        back = tmp_path / f"{weights}-back"
        import_huggingface(tmp_path / weights, back)
        for name in (f"{weights}.pt", "tokenizer.json", "chat_template.jinja"):
            assert (back / name).read_bytes() == (trained / name).read_bytes()
        assert read_config(back) == read_config(trained)


@settings(max_examples=8, deadline=None)
@given(
    repeat=st.sampled_from(["cycle", "adjacent"]),
    n_unique_ffns=st.integers(1, 3),
    embedding_rank=st.sampled_from([None, 8]),
    rotary_dims=st.sampled_from([2, 8, 16]),
    global_every=st.integers(1, 7),
    mtp_rank=st.sampled_from([None, 4]),
    seed=st.integers(0, 9),
)
def test_any_variant_comes_back_with_and_without_what_lies_apart(
    tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer, seed: int, **changes
):
    folder = tmp_path_factory.mktemp("variant")
    config = preset("smoke", **changes)
    model = write_model(folder / "ours", sharp_model(config, seed), tokenizer)
    export_huggingface(read_source(model), folder / "hf")
    import_huggingface(folder / "hf", folder / "back")
    assert same_weights(folder / "ours", folder / "back")
    shutil.rmtree(folder / "hf" / "tinymemorylm")
    import_huggingface(folder / "hf", folder / "dense")
    found = load_model(folder / "dense")[0]
    dense = dataclasses.replace(config, embedding_rank=None, mtp_horizons=(), mtp_rank=None)
    assert _plain(found.config) == _plain(dense)
    mine = named_weights(unroll(load_model(folder / "ours")[0]))
    yours = named_weights(unroll(found))
    assert all(torch.equal(mine[name], yours[name]) for name in mine)


def _plain(config: ModelConfig) -> dict:
    """With theta to ten digits, and no difference where none shows."""
    values = dataclasses.asdict(config)
    theta = float(f"{config.rope_theta:.10g}")
    return {**values, "rope_theta": theta, "global_every": min(config.global_every, 7)}


def test_layers_trained_apart_elsewhere_come_back_untied(exported: Path, tmp_path: Path, capsys):
    def tune(weights: dict[str, torch.Tensor]) -> None:
        weights["model.layers.1.self_attn.v_proj.weight"] += 0.01

    changed(exported, tune)
    import_huggingface(exported, tmp_path / "back")
    assert "have changed since the export" in capsys.readouterr().err
    config = load_model(tmp_path / "back")[0].config
    assert config.n_unique_layers == config.n_logical_layers == 6
    assert config.n_unique_ffns == 1 and config.mtp_horizons == ()


def test_embeddings_trained_apart_elsewhere_are_refused(exported: Path, tmp_path: Path):
    def tune(weights: dict[str, torch.Tensor]) -> None:
        weights["model.embed_tokens.weight"][3] += 0.1

    changed(exported, tune)
    with pytest.raises(InputError, match="differ by more than a scale, and ours are tied"):
        import_huggingface(exported, tmp_path / "back")
    assert not (tmp_path / "back").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama', not ministral"),
        ({"hidden_act": "gelu"}, "none of ours; nearest preset: smoke"),
        ({"rope_parameters": {"rope_type": "default"}}, "not the configuration of an export"),
        ({"layer_types": ["full_attention"] * 5 + ["sliding_attention"]}, "none of ours"),
    ],
)
def test_a_foreign_model_is_refused_with_the_reason(
    exported: Path, tmp_path: Path, changes: dict, message: str
):
    shutil.rmtree(exported / "tinymemorylm")
    config = json.loads((exported / "config.json").read_text())
    (exported / "config.json").write_text(json.dumps({**config, **changes}))
    with pytest.raises(InputError, match=message):
        import_huggingface(exported, tmp_path / "back")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("config.json", b"[1]", "not an object of JSON"),
        ("config.json", b"{", "not valid JSON"),
        ("model.safetensors", b"\0" * 64, "damaged or no safetensors file"),
        ("tokenizer.json", b"{}", "not a tokenizer of ours"),
    ],
)
def test_a_damaged_file_is_named(
    exported: Path, tmp_path: Path, name: str, content: bytes, message: str
):
    (exported / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        import_huggingface(exported, tmp_path / "back")
    (exported / name).unlink()
    with pytest.raises(InputError, match=name):
        import_huggingface(exported, tmp_path / "back")


def test_a_missing_weight_is_named(exported: Path, tmp_path: Path):
    changed(exported, lambda weights: weights.pop("model.layers.2.mlp.up_proj.weight"))
    with pytest.raises(InputError, match=r"no model\.layers\.2\.mlp\.up_proj\.weight"):
        import_huggingface(exported, tmp_path / "back")


def test_tied_layers_are_copies_so_that_no_tensor_is_shared(smoke: Source, exported: Path):
    weights = safetensors.torch.load_file(exported / "model.safetensors")
    n_blocks = smoke.model.config.n_unique_layers
    assert torch.equal(
        weights["model.layers.0.mlp.up_proj.weight"],
        weights[f"model.layers.{n_blocks}.mlp.up_proj.weight"],
    )
    assert weights.keys() == named_weights(unroll(smoke.model)).keys()
