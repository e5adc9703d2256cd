import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tinymemorylm.corpus import BadInput
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.evaluation.statistics import accuracy
from tinymemorylm.evaluation.tiny_leaderboard import arc_easy, blimp, wikitext
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture
def scorer(model: Transformer, tokenizer: Tokenizer) -> Scorer:
    return Scorer(model, tokenizer)


@torch.no_grad()
def logprob(scorer: Scorer, text: str) -> float:
    """Of the first 256 tokens, the first of them given."""
    ids = scorer.tokenizer.encode(text)[:256]
    logits = scorer.model.logits(scorer.model(torch.tensor([ids[:-1]])))[0].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(ids[1:])[:, None]).sum())


def lines(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def question(text: str, choices: list[str], answer: int, labels: str = "ABCDE") -> dict[str, Any]:
    found = list(labels[: len(choices)])
    return {
        "id": "x",
        "question": text,
        "choices": {"text": choices, "label": found},
        "answerKey": found[answer],
    }


@pytest.fixture
def questions(texts: list[str]) -> list[dict[str, Any]]:
    words = texts[0].split()
    return [
        question(
            " ".join(words[i : i + 6]) + "?",
            [" ".join(words[j : j + 3]) for j in range(i, i + 12, 3)],
            i % 4,
            "1234" if i % 2 else "ABCD",
        )
        for i in range(24)
    ]


def test_blimp_is_read_without_bos_and_over_all_pairs_of_the_folder(
    scorer: Scorer, texts: list[str], tmp_path: Path
):
    long = " ".join(texts[:12])
    assert len(scorer.tokenizer.encode(long)) > 300
    sentences = [" ".join(text.split()[:9]) for text in texts[:20]]
    pairs = [(s, " ".join(sorted(s.split()))) for s in sentences]
    pairs += [(long, "the end of it is never read " + long), (long, long + " Or is it?")]
    rows = [{"sentence_good": good, "sentence_bad": bad} for good, bad in pairs]
    lines(tmp_path / "a.jsonl", rows[:5])
    lines(tmp_path / "b.jsonl", rows[5:])
    won = [logprob(scorer, good) > logprob(scorer, bad) for good, bad in pairs[:-1]]
    assert 0 < sum(won) < len(won)
    assert blimp(scorer, str(tmp_path), BadInput()) == {
        "path": str(tmp_path),
        "benchmark": "BLiMP",
        **accuracy(sum(won) + 0.5, len(pairs)),  # the last two are the same in 256 tokens
    }


def test_arc_takes_the_choice_that_is_likeliest_after_its_question(
    scorer: Scorer, questions: list[dict[str, Any]], tmp_path: Path
):
    right = 0
    for row in questions:
        choices = row["choices"]
        of_choices = [logprob(scorer, f"{row['question']} {c}") for c in choices["text"]]
        right += choices["label"][of_choices.index(max(of_choices))] == row["answerKey"]
    assert 0 < right < len(questions)
    path = lines(tmp_path / "arc.jsonl", questions)
    assert arc_easy(scorer, path, BadInput()) == {
        "path": path,
        "benchmark": "ARC-Easy",
        **accuracy(right, len(questions)),
    }


def test_choices_that_lie_beyond_256_tokens_share_the_point(
    scorer: Scorer, texts: list[str], tmp_path: Path
):
    long = " ".join(texts[:12])
    path = lines(tmp_path / "arc.jsonl", [question(long, ["one", "two", "six"], 1)] * 3)
    assert arc_easy(scorer, path, BadInput())["accuracy"] == pytest.approx(1 / 3, abs=1e-5)


def test_arc_of_parquet_as_the_hub_has_it(
    scorer: Scorer, questions: list[dict[str, Any]], tmp_path: Path
):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(questions), tmp_path / "arc.parquet")
    found = arc_easy(scorer, str(tmp_path / "arc.parquet"), BadInput())
    wanted = arc_easy(scorer, lines(tmp_path / "arc.jsonl", questions), BadInput())
    assert {**found, "path": ""} == {**wanted, "path": ""}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"question": None}, '"question" is missing'),
        ({"choices": ["a", "b"]}, '"choices" is not {"text": [...], "label": [...]}'),
        ({"choices": {"text": ["a"], "label": ["A", "B"]}}, '"choices" is not {"text": [...]'),
        ({"choices": {"text": ["a", 2], "label": ["A", "B"]}}, 'a "text" of "choices" is not'),
        ({"answerKey": "Z"}, "\"answerKey\" 'Z' is not among the labels"),
    ],
)
def test_a_faulty_question_is_named(
    scorer: Scorer, questions: list[dict[str, Any]], tmp_path: Path, change: dict, said: str
):
    path = lines(tmp_path / "arc.jsonl", [questions[0], {**questions[1], **change}])
    with pytest.raises(InputError) as raised:
        arc_easy(scorer, path, BadInput())
    assert f"arc.jsonl:2: {said}" in str(raised.value)
    assert arc_easy(scorer, path, BadInput(skip=True))["n"] == 1


@torch.no_grad()
def test_wikitext_scores_each_token_but_the_first_in_windows_side_by_side(
    scorer: Scorer, texts: list[str], tmp_path: Path
):
    text = "\n".join(texts[:15])
    ids = scorer.tokenizer.encode(text)
    assert len(ids) > 2 * 256 + 20
    nats = 0.0
    for start in range(0, len(ids) - 1, 256):
        seen = torch.tensor([ids[start : start + 256][: len(ids) - 1 - start]])
        logits = scorer.model.logits(scorer.model(seen))[0].double()
        targets = torch.tensor(ids[start + 1 : start + 257])[:, None]
        nats -= float(logits.log_softmax(-1).gather(1, targets).sum())
    path = tmp_path / "wiki.test.raw"
    path.write_text(f" \n {text}\n \n")
    row = wikitext(scorer, str(path), BadInput())
    assert row["byte_perplexity"] == pytest.approx(math.exp(nats / len(text.encode())), rel=1e-5)
    assert (row["n"], row["tokens"]) == (len(text.encode()), len(ids))


def test_wikitext_rows_are_joined_by_newlines(scorer: Scorer, texts: list[str], tmp_path: Path):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    rows = ["", " = A title = \n", "", *(f" {text} \n" for text in texts[:6]), ""]
    pq.write_table(pa.table({"text": rows}), tmp_path / "wiki.parquet")
    (tmp_path / "wiki.txt").write_text("\n".join(rows))
    lines(tmp_path / "wiki.jsonl", [{"text": row} for row in rows])
    found = [
        wikitext(scorer, str(tmp_path / f"wiki.{suffix}"), BadInput())
        for suffix in ("parquet", "txt", "jsonl")
    ]
    assert found[0]["n"] == len("\n".join(rows).strip().encode())
    assert {**found[0], "path": ""} == {**found[1], "path": ""} == {**found[2], "path": ""}


def test_nothing_to_measure_is_said(scorer: Scorer, tmp_path: Path):
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(InputError, match=r"empty\.txt: no text in it"):
        wikitext(scorer, str(tmp_path / "empty.txt"), BadInput())
    with pytest.raises(InputError, match=r"empty\.txt: unknown suffix: questions are"):
        arc_easy(scorer, str(tmp_path / "empty.txt"), BadInput())
