"""Our models in lm-evaluation-harness: its figures are ours. Without the harness: skipped."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from tinymemorylm import load
from tinymemorylm.config import shipped_recipe
from tinymemorylm.corpus import BadInput
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.minimal_pairs import measure_pairs, read_pairs

MODULE = "tinymemorylm.evaluation.lm_eval"
needs_harness = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="the eval extra is not installed"
)


@pytest.fixture
def lm(finished_run: Path) -> Any:
    from tinymemorylm.evaluation.lm_eval import TinyMemoryLM

    return TinyMemoryLM(str(finished_run), weights="pretrain")


def ask(*arguments: object) -> SimpleNamespace:
    return SimpleNamespace(args=arguments)


@pytest.fixture
def blimp(tmp_path: Path, texts: list[str], monkeypatch) -> Path:
    """blimp.jsonl in the working folder, and the harness's data cache there too."""
    import datasets

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    starts = [" ".join(text.split()[:8]) for text in texts[:40]]
    starts[3] = 'They said "it\'s here" {{then}} left.'
    pairs = [(start, " ".join(start.split()[::-1])) for start in starts]
    rows = [{"sentence_good": good, "sentence_bad": bad} for good, bad in pairs]
    path = tmp_path / "blimp.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@needs_harness
def test_its_blimp_is_ours(finished_run: Path, blimp: Path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    import tinymemorylm.evaluation.lm_eval  # noqa: F401  # registers the model

    folder = shipped_recipe("x").parent / "lm-eval"
    found = simple_evaluate(
        model="tinymemorylm",
        model_args=f"pretrained={finished_run},weights=pretrain",
        tasks=["blimp-local"],
        task_manager=TaskManager(include_path=str(folder), include_defaults=False),
        bootstrap_iters=0,
    )
    assert found is not None
    model = load(finished_run, "pretrain")
    (row,) = measure_pairs(model.scorer, read_pairs([str(blimp)], BadInput()))
    assert round(found["results"]["blimp-local"]["acc,none"], 5) == row["accuracy"]
    assert 0 < row["accuracy"] < 1
    samples = found["samples"]["blimp-local"]
    assert len(samples) == row["n"] == 40
    for sample in samples:
        theirs = [logprob for logprob, _ in sample["filtered_resps"]]
        fields = "sentence_good", "sentence_bad"
        ours = [model.score(sample["doc"][field]).logprob for field in fields]
        assert theirs == pytest.approx(ours, abs=1e-4)


@needs_harness
def test_a_context_begins_with_bos_once(lm: Any):
    assert lm.tok_encode("The cat")[0] == lm.prefix_token_id == 1
    assert lm.tok_encode("The cat").count(1) == 1
    assert 1 not in lm.tok_encode("The cat", add_special_tokens=False)
    assert 1 not in lm.tok_encode("<bos>", add_special_tokens=False)


@needs_harness
def test_a_text_is_as_likely_in_two_parts_as_in_one(lm: Any, finished_run: Path, texts: list[str]):
    first, second = texts[0][:40].rsplit(" ", 1)
    asked = [("", first), (first, f" {second}"), ("", f"{first} {second}")]
    requests = [ask(*pair) for pair in asked]
    (a, _), (b, _), (whole, _) = lm.loglikelihood(requests, disable_tqdm=True)
    assert a + b == pytest.approx(whole, abs=1e-4)
    score = load(finished_run, "pretrain").score
    assert whole == pytest.approx(score(f"{first} {second}").logprob, abs=1e-4)


@needs_harness
def test_a_long_context_loses_its_beginning(lm: Any, texts: list[str]):
    words = " ".join(texts[:20])
    n = lm.lm.context_length
    kept = lm.tok_encode(words)[-(n - 4) :]
    cut = lm._loglikelihood_tokens([(None, lm.tok_encode(words), [5, 6, 7, 8, 9])])
    assert cut == lm._loglikelihood_tokens([(None, kept, [5, 6, 7, 8, 9])])
    with pytest.raises(InputError, match=f"a continuation of {n + 1} tokens exceeds"):
        lm._loglikelihood_tokens([(None, [1], [5] * (n + 1))])


@needs_harness
def test_rolling_scores_are_those_of_whole_texts(lm: Any, finished_run: Path, texts: list[str]):
    long = "\n".join(texts[:9])
    score = load(finished_run, "pretrain").score
    found = lm.loglikelihood_rolling([ask(long), ask(texts[3])])
    assert found == pytest.approx([score(long).logprob, score(texts[3]).logprob], rel=1e-6)


@needs_harness
def test_generation_is_ours_greedy_unless_told_to_sample(lm: Any, finished_run: Path):
    ours = load(finished_run, "pretrain").generate("The cat", temperature=0, max_new_tokens=12)
    until = {"until": ["\n\n"], "max_gen_toks": 12}
    options = [until, {**until, "do_sample": False, "temperature": 0.9}]
    sampled = {**until, "do_sample": True, "temperature": 3.0, "seed": 1}
    texts = lm.generate_until([ask("The cat", {**o}) for o in (*options, sampled)])
    assert texts[:2] == [ours.text, ours.text] and texts[2] != ours.text
    assert ours.finish_reason == "length"
    stop = ours.text[4:6]
    (cut,) = lm.generate_until([ask("The cat", {"until": stop, "max_gen_toks": 12})])
    assert cut == ours.text[: ours.text.index(stop)]
    with pytest.raises(InputError, match="unknown generation option 'num_beams': there are until"):
        lm.generate_until([ask("The cat", {"num_beams": 2})])


def test_without_the_harness_the_program_says_what_to_install():
    hide = "import runpy, sys; sys.modules['lm_eval'] = None; "
    program = f"{hide}runpy.run_module({MODULE!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == (
        "tmlm: lm-evaluation-harness is not installed: pip install 'tinymemorylm[eval]'\n"
    )


@needs_harness
@pytest.mark.slow
def test_the_program_is_the_harness_with_our_model(finished_run: Path, blimp: Path):
    folder = shipped_recipe("x").parent / "lm-eval"

    def run(model: Path) -> subprocess.CompletedProcess[str]:
        options = ["--model", "tinymemorylm", "--model_args", f"pretrained={model}"]
        options += ["--tasks", "blimp-local", "--include_path", str(folder)]
        command = [sys.executable, "-m", MODULE, *options]
        return subprocess.run(command, capture_output=True, text=True, cwd=blimp.parent)

    done = run(finished_run)
    assert done.returncode == 0 and "|blimp-local|" in done.stdout
    missing = run(Path("nowhere"))
    assert missing.returncode == 2
    assert missing.stderr.splitlines()[-1].startswith("tmlm: nowhere is not a model directory")
