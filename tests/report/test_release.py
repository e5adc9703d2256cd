import json
import shutil
from pathlib import Path

import pytest

from tinymemorylm import load
from tinymemorylm.errors import InputError
from tinymemorylm.report.release import FILES, release, thinned
from tinymemorylm.report.run_report import read_lines, report_run


@pytest.fixture
def run(finished_run: Path, tmp_path: Path) -> Path:
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    row = {"path": "a.txt", "weights": "model", "bits_per_byte": 1.0, "bytes": 9}
    (run / "evaluation.json").write_text(json.dumps({"texts": [row]}))
    report_run(run)
    return run


def test_a_release_is_a_model_directory_and_says_the_same(run: Path, tmp_path: Path):
    out = tmp_path / "release"
    release(run, out)
    assert {path.name for path in out.iterdir()} == {*FILES, "metrics.jsonl"}
    text = load(run).generate("Once", seed=4).text
    assert load(out).generate("Once", seed=4).text == text
    card = (out / "README.md").read_text()
    report_run(out)  # from its own files
    assert (out / "README.md").read_text() == card


def test_an_unfinished_run_is_no_release(run: Path, tmp_path: Path):
    (run / "model.pt").unlink()
    with pytest.raises(InputError, match=r"has no model\.pt: finish the run"):
        release(run, tmp_path / "release")
    assert not (tmp_path / "release").exists()


def test_thinning_keeps_ends_and_validations(run: Path):
    metrics = [
        {"phase": phase, "step": step, **({"val_bits_per_byte": 1.0} if step % 50 == 7 else {})}
        for phase, first in (("pretrain", 1), ("sft", 1001))
        for step in range(first, first + 1000)
    ]
    kept = thinned(metrics, 100)
    steps = [line["step"] for line in kept]
    assert steps == sorted(steps) and 240 <= len(steps) <= 300
    assert {1, 11, 981, 1000, 1001, 2000} <= set(steps)
    assert {s for s in range(2000) if s % 50 == 7} <= set(steps)
    short = read_lines(run / "metrics.jsonl")
    assert json.dumps(thinned(short)) == json.dumps(short)
