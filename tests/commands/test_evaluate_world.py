"""The parts of `tmlm eval` that the procedural world measures, as a user has them."""

import json
import shutil
from pathlib import Path

import pytest

from tinymemorylm.cli import main
from tinymemorylm.corpus.storyworld.conversations import chats
from tinymemorylm.evaluation import faithfulness, recall


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> None:
    """Few and short questions, for a model that knows nothing."""
    monkeypatch.setattr(recall, "DISTANCES", (0, 32))
    monkeypatch.setattr(recall, "TIMES_TRUE", 1)
    monkeypatch.setattr(faithfulness, "PER_KIND", 1)
    monkeypatch.setattr(faithfulness, "MAX_NEW_TOKENS", 3)
    faithfulness.phrasing()  # kept as it is
    short = tuple(kind for kind in chats() if kind[0] not in faithfulness.NOTHING_TOLD)
    monkeypatch.setattr(faithfulness, "plots", lambda: short)


def evaluate(capsys: pytest.CaptureFixture[str], run: Path, *options: str) -> dict:
    assert main(["eval", "--model", str(run), "--json", *options]) == 0
    return json.loads(capsys.readouterr().out)


def test_stories_of_known_entropy_in_the_order_given(finished_run: Path, capsys):
    options = ["--weights", "pretrain", "--storyworld", "8:3KB", "7:2KB"]
    rows = evaluate(capsys, finished_run, *options)["storyworld"]
    assert [row["path"] for row in rows] == ["storyworld:8:3KB", "storyworld:7:2KB"]
    for row in rows:
        assert row["gap"] == pytest.approx(row["bits_per_byte"] - row["source_bits_per_byte"])
        assert 0.2 < row["source_bits_per_byte"] < 0.35 < row["bits_per_byte"]
        assert row["standard_error"] > 0 and row["weights"] == "pretrain"


def test_a_seed_that_was_trained_on_is_warned_of(finished_run: Path, capsys):
    for seed, warned in (("1", True), ("10", False)):
        assert main(["eval", "--model", str(finished_run), "--storyworld", f"{seed}:1KB"]) == 0
        said = capsys.readouterr().err
        assert ("warning: this model was trained on storyworld:1:40KB" in said) == warned


def test_recall_asks_each_weights_in_their_own_form(finished_run: Path, near: None, capsys):
    of_weights = [
        evaluate(capsys, finished_run, "--recall", "--weights", weights)["recall"]
        for weights in ("pretrain", "model")
    ]
    for rows in of_weights:
        assert [row["distance"] for row in rows] == [0, 32]
        assert all(row["questions"] == 24 for row in rows)


def test_answers_about_stories_are_judged(finished_run: Path, near: None, capsys):
    rows = evaluate(capsys, finished_run, "--faithfulness")["faithfulness"]
    assert rows[0]["questions"] == "all" and rows[0]["n"] == 10
    assert all(row["weights"] == "model" for row in rows)


def test_the_recall_curve_is_in_the_card_or_where_it_is_wanted(
    finished_run: Path, near: None, tmp_path: Path, capsys
):
    run, pictures = tmp_path / "run", tmp_path / "a" / "b"
    shutil.copytree(finished_run, run)
    assert main(["eval", "--model", str(run), "--recall"]) == 0
    assert not (run / "recall.png").exists()
    assert main(["eval", "--model", str(run), "--recall", "--pictures", str(pictures)]) == 0
    assert [path.name for path in pictures.iterdir()] == ["recall.png"]
    assert "recall.png" not in capsys.readouterr().out
    for weights in ("pretrain", "model"):
        options = ["--recall", "--append-card", "--weights", weights]
        assert main(["eval", "--model", str(run), *options]) == 0
    assert (run / "recall.png").read_bytes().startswith(b"\x89PNG")
    assert "![Recall by distance](recall.png)" in (run / "README.md").read_text()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--storyworld", "7"], "--storyworld 7: write SEED:BYTES, such as 7:1MB"),
        (["--storyworld", "storyworld:7:1MB"], "write SEED:BYTES"),
        (["--faithfulness", "--weights", "pretrain"], "give it tuned weights, not pretrain"),
        (["--faithfulness", "--model", "nowhere"], "nowhere is not a model directory"),
        (["--faithfulness"], "tokens: too many for a context of 256"),
        (["--recall", "--pictures", "FILE"], "a file; name a folder"),
    ],
)
def test_bad_input_is_one_line(
    finished_run: Path, tmp_path: Path, options: list[str], said: str, capsys
):
    file = tmp_path / "file"
    file.write_text("")
    options = [str(file) if option == "FILE" else option for option in options]
    assert main(["eval", "--model", str(finished_run), *options]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and error.count("tmlm: ") == 1
