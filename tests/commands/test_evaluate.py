"""`tmlm eval` as a user has it: JSON, tables, the card, and its errors."""

import json
import shutil
from pathlib import Path

import pytest

from tinymemorylm import load
from tinymemorylm.cli import main


@pytest.fixture
def text(tmp_path: Path, texts: list[str]) -> Path:
    path = tmp_path / "held-out.txt"
    path.write_text("\n<|endoftext|>\n".join(["\n".join(texts[:8]), texts[9]]) + "\n")
    return path


def evaluate(capsys: pytest.CaptureFixture[str], run: Path, *options: object) -> dict:
    assert main(["eval", "--model", str(run), "--json", *map(str, options)]) == 0
    return json.loads(capsys.readouterr().out)


def test_bits_per_byte_of_texts_in_the_order_given(
    finished_run: Path, text: Path, tmp_path: Path, texts: list[str], capsys
):
    second = tmp_path / "second.txt"
    second.write_text(texts[3])
    found = evaluate(capsys, finished_run, "--text", second, text)
    assert [row["path"] for row in found["texts"]] == [str(second), str(text)]
    row = found["texts"][0]
    score = load(finished_run).score(texts[3])
    assert row["bits_per_byte"] == pytest.approx(score.bits_per_byte, abs=1e-5)
    assert (row["bytes"], row["tokens"]) == (score.n_bytes, len(score.tokens))
    assert row["nats_per_token"] == pytest.approx(-score.logprob / len(score.tokens), abs=1e-5)
    assert row["weights"] == found["weights"] == "model"


def test_by_position_and_overlap(finished_run: Path, text: Path, capsys):
    found = evaluate(capsys, finished_run, "--text", text, "--by-position", "--against", text)
    assert found["positions"][0]["from"] == 0 and found["positions"][0]["path"] == str(text)
    assert found["overlap"][0]["share"] == 1.0


def test_calibration_and_its_picture(finished_run: Path, text: Path, tmp_path: Path, capsys):
    options = ["--text", text, "--calibration"]
    found = evaluate(capsys, finished_run, *options, "--pictures", tmp_path / "pictures")
    row = found["calibration"][0]
    assert row["path"] == str(text) and row["tokens"] == found["texts"][0]["tokens"]
    picture = tmp_path / "pictures" / "reliability.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert evaluate(capsys, finished_run, *options)["calibration"] == [row]
    assert not (finished_run / "reliability.png").exists()


def test_relevance_has_a_row_for_each_source(finished_run: Path, tmp_path: Path, capsys):
    file = tmp_path / "chats.jsonl"
    rows = [{"prompt": f"What is {n}?", "response": f"A number, {n}."} for n in range(5)]
    file.write_text("\n".join(map(json.dumps, rows)))
    found = evaluate(capsys, finished_run, "--relevance", file, "storyworld:5:4KB")["relevance"]
    assert [row["path"] for row in found] == [str(file), "storyworld:5:4KB"]
    assert found[0]["n"] == 5 and found[0]["bytes"] == sum(len(r["response"]) for r in rows)
    gain = found[1]["shuffled_bits_per_byte"] - found[1]["bits_per_byte"]
    assert found[1]["gain"] == pytest.approx(gain, abs=2e-5)


def test_degeneration_draws_texts_and_of_tuned_weights_answers(
    finished_run: Path, text: Path, tmp_path: Path, monkeypatch, capsys
):
    monkeypatch.setattr("tinymemorylm.evaluation.degeneration.MAX_NEW_TOKENS", 30)
    options = ["--degeneration", "--samples", 3, "--temperature", 0.9]
    found = evaluate(capsys, finished_run, *options)["degeneration"]
    assert {(row["kind"], row["n"], row["temperature"]) for row in found} == {
        ("continuation", 3, 0.9),
        ("chat", 3, 0.9),
    }
    assert [row["kind"] for row in found if row["measure"] == "format_collapse"] == ["chat"]
    known = [row["known"] for row in found if row["measure"] == "invented_words"]
    assert known == ["training text"] * 2
    options += ["--weights", "pretrain", "--words", text]
    found = evaluate(capsys, finished_run, *options)["degeneration"]
    assert {row["kind"] for row in found} == {"continuation"}
    assert {row["known"] for row in found if "known" in row} == {str(text)}
    bare = tmp_path / "bare"
    shutil.copytree(finished_run, bare)
    (bare / "recipe.json").unlink()
    assert main(["eval", "--model", str(bare), "--degeneration", "--samples", "1"]) == 0
    shown = capsys.readouterr()
    assert "the training text isn't at hand" in shown.err and "give --words FILE" in shown.err
    assert "| tokenizer, storyworld |" in shown.out


@pytest.fixture
def pair_files(tmp_path: Path, texts: list[str]) -> list[Path]:
    """The same pairs as Zorro has them, in a folder, and the other way round as BLiMP has them."""
    starts = [" ".join(text.split()[:7]) for text in texts[:12]]
    twins = [(start, " ".join(start.split()[::-1])) for start in starts]
    files = [tmp_path / "z" / "one.txt", tmp_path / "z" / "two.jsonl"]
    files[0].parent.mkdir()
    files[0].write_text("".join(f"{bad}\n{good}\n" for good, bad in twins))
    rows = [{"sentence_good": bad, "sentence_bad": good} for good, bad in twins]
    files[1].write_text("".join(json.dumps(row) + "\n" for row in rows))
    return files


def test_minimal_pairs_in_the_order_given(
    finished_run: Path, pair_files: list[Path], texts: list[str], capsys
):
    one, two = pair_files
    found = evaluate(capsys, finished_run, "--minimal-pairs", two, one)
    assert [row["path"] for row in found["minimal_pairs"]] == [str(two), str(one)]
    lm = load(finished_run)
    lines = one.read_text().splitlines()
    won = [
        lm.score(good).logprob > lm.score(bad).logprob
        for bad, good in zip(lines[::2], lines[1::2], strict=True)
    ]
    assert found["minimal_pairs"][1]["accuracy"] == pytest.approx(sum(won) / 12, abs=1e-5)
    for row in found["minimal_pairs"]:
        assert row["n"] == 12 and row["low"] < row["accuracy"] < row["high"]
    (mean,) = found["minimal_pairs_mean"]
    assert (mean["path"], mean["files"], mean["n"]) == (str(one.parent), 2, 24)
    assert mean["accuracy"] == pytest.approx(0.5, abs=1e-5)  # what one wins the other loses
    of_folder = evaluate(capsys, finished_run, "--minimal-pairs", one.parent)
    assert of_folder["minimal_pairs"] == found["minimal_pairs"][::-1]


def test_the_tiny_leaderboard_has_a_row_for_each_thing_named(
    finished_run: Path, pair_files: list[Path], text: Path, tmp_path: Path, capsys
):
    arc = tmp_path / "arc.jsonl"
    choices = {"text": ["a cat", "a hill"], "label": ["A", "B"]}
    arc.write_text(
        json.dumps({"question": "Who ran?", "choices": choices, "answerKey": "A"}) + "\n"
    )
    sources = {"--wikitext": text, "--arc-easy": arc, "--blimp": pair_files[0].parent}
    options = [part for pair in sources.items() for part in pair]
    found = evaluate(capsys, finished_run, "--protocol", "tiny-leaderboard", *options)
    names = [(row["benchmark"], row["path"], row["n"]) for row in found["tiny_leaderboard"]]
    n_bytes = len(text.read_text().strip().encode())
    assert names == [
        ("BLiMP", str(pair_files[0].parent), 24),
        ("ARC-Easy", str(arc), 1),
        ("WikiText-2", str(text), n_bytes),
    ]
    assert found["tiny_leaderboard"][2]["byte_perplexity"] > 1
    (alone,) = evaluate(capsys, finished_run, "--protocol", "tiny-leaderboard", "--wikitext", text)[
        "tiny_leaderboard"
    ]
    assert alone == found["tiny_leaderboard"][2]


def test_what_is_kept_is_shown_in_the_card(finished_run: Path, text: Path, tmp_path: Path, capsys):
    run = tmp_path / "run"
    shutil.copytree(finished_run, run)
    for weights in ("pretrain", "model", "model"):
        options = ["--text", str(text), "--weights", weights, "--append-card"]
        assert main(["eval", "--model", str(run), *options]) == 0
    assert "| bits per byte |" in capsys.readouterr().out
    kept = json.loads((run / "evaluation.json").read_text())["texts"]
    assert [row["weights"] for row in kept] == ["pretrain", "model"]
    card = (run / "README.md").read_text()
    assert "## Evaluation\n\n### Bits per byte" in card
    for row in kept:
        assert f"| {row['weights']} | {row['bits_per_byte']:.4f} |" in card


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "nothing to measure: give --text FILE"),
        (["--by-position"], "--by-position is about texts: give --text FILE too"),
        (["--calibration"], "--calibration is about texts: give --text FILE too"),
        (["--words", "x.txt"], "--words is about samples: give --degeneration too"),
        (["--degeneration", "--samples", "0"], "samples must be at least 1, not 0"),
        (["--degeneration", "--temperature", "-1"], "temperature must be 0 or more, not -1.0"),
        (["--relevance", "nowhere.jsonl"], "nowhere.jsonl: no such file or folder"),
        (["--against", "x.txt"], "--against is about texts"),
        (["--text", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["--text", "EMPTY"], "empty.txt: empty file"),
        (["--text", "EMPTY", "--skip-bad"], "empty.txt: empty: nothing to measure in it"),
        (["--minimal-pairs", "nowhere.txt"], "nowhere.txt: no such file or folder"),
        (["--minimal-pairs", "EMPTY"], "empty.txt: empty file"),
        (["--minimal-pairs", "EMPTY", "--skip-bad"], "empty.txt: no pair of sentences in it"),
        (["--protocol", "tiny-leaderboard"], "give at least one of --blimp, --arc-easy, --wiki"),
        (["--arc-easy", "x.jsonl"], "--arc-easy belongs to --protocol tiny-leaderboard: give"),
        (
            ["--protocol", "tiny-leaderboard", "--arc-easy", "EMPTY"],
            "empty.txt: unknown suffix: questions are .jsonl or .parquet",
        ),
        (["--text", "EMPTY", "--model", "nowhere"], "nowhere is not a model directory"),
    ],
)
def test_bad_input_is_one_line(
    finished_run: Path, tmp_path: Path, options: list[str], said: str, capsys
):
    empty = tmp_path / "empty.txt"
    empty.write_text("\n")
    options = [str(empty) if option == "EMPTY" else option for option in options]
    assert main(["eval", "--model", str(finished_run), *options]) == 2
    error = capsys.readouterr().err
    assert said in error.splitlines()[-1] and error.count("tmlm: ") == 1
