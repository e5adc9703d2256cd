"""BLiMP, ARC-Easy and WikiText-2 the way of the Tiny-ML Leaderboard, a public board of tiny models.

In: a model and local copies of the three. Out: a row for each: an accuracy, or a perplexity.

The board (huggingface.co/spaces/Glint-Research/Tiny-ML-Leaderboard) scores with `benchmark.py` of
Glint-Research/Glint-1.3. Stated of it, in the cards and discussions of models measured with it:

- log-probabilities are summed and not normalised; BLiMP and ARC-Easy keep the first 256 tokens
- no <bos> is put before a text, so that its first token is read but not scored
- ARC-Easy: no examples; question, a space and a choice are one text; the likeliest text is chosen
- WikiText-2 raw, test, joined to 1,292,008 bytes: windows of 256 tokens that don't overlap, each
  token scored but the very first; perplexity per byte

Our reading of what is not stated: ties count half in BLiMP and an equal share in ARC-Easy; BLiMP is
one share of all pairs; the rows of WikiText-2 are joined by newlines and stripped, which gives that
number of bytes; a window's first token is scored after the last one of the window before; a byte's
perplexity is exp(nats / bytes).
"""

import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from tinymemorylm.corpus import BadInput
from tinymemorylm.corpus.local import (
    file_format,
    find_files,
    read_lines,
    read_records,
    reporting_faults,
    text_fault,
)
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.minimal_pairs import pair_points, read_pairs
from tinymemorylm.evaluation.scoring import Scorer, Window
from tinymemorylm.evaluation.statistics import accuracy

LENGTH = 256


class Question(NamedTuple):
    """texts: the question followed by each choice; answer: the right one's place."""

    texts: list[str]
    answer: int


def blimp(scorer: Scorer, source: str, bad: BadInput) -> dict[str, Any]:
    """One row for all pairs of a file, a folder or a glob."""
    pairs = [pair for file in read_pairs([source], bad) for pair in file.pairs]
    nats = _nats(scorer, [sentence for pair in pairs for sentence in pair], source)
    points = sum(pair_points(nats))
    return {"path": source, "benchmark": "BLiMP", **accuracy(points, len(pairs))}


def arc_easy(scorer: Scorer, source: str, bad: BadInput) -> dict[str, Any]:
    """A row for questions in the form of `ai2_arc`. Raises InputError where there are none."""
    questions = [question for file in find_files(source) for question in _questions(file, bad)]
    if not questions:
        raise InputError(f"{source}: no question in it")
    nats = iter(_nats(scorer, [text for q in questions for text in q.texts], source))
    points = 0.0
    for texts, answer in questions:
        of_choices = [next(nats) for _ in texts]
        best = min(of_choices)
        points += (of_choices[answer] == best) / of_choices.count(best)
    return {"path": source, "benchmark": "ARC-Easy", **accuracy(points, len(questions))}


def wikitext(scorer: Scorer, source: str, bad: BadInput) -> dict[str, Any]:
    """A row for a text: a file as it stands, or rows joined by newlines; ends stripped."""
    text = "\n".join(text for file in find_files(source) for text in _rows(file, bad)).strip()
    ids = scorer.tokenizer.encode(text)
    if len(ids) < 2:
        raise InputError(f"{source}: no text in it")
    windows = (ids[start : start + LENGTH + 1] for start in range(0, len(ids) - 1, LENGTH))
    nats = sum(scorer.totals([Window(w, len(w) - 1) for w in windows], source))
    n_bytes = len(text.encode())
    return {
        "path": source,
        "benchmark": "WikiText-2",
        "byte_perplexity": round(math.exp(nats / n_bytes), 5),
        "n": n_bytes,
        "tokens": len(ids),
    }


def _nats(scorer: Scorer, texts: Sequence[str], title: str) -> list[float]:
    """Summed nll of each text: of its first 256 tokens, all but the first."""
    encoded = [ids[:LENGTH] for ids in scorer.tokenizer.encode_batch(texts)]
    return scorer.totals([Window(ids, len(ids) - 1) for ids in encoded], title)


def _questions(file: Path, bad: BadInput) -> Iterator[Question]:
    if file_format(file) not in (".jsonl", ".parquet"):
        raise InputError(f"{file}: unknown suffix: questions are .jsonl or .parquet")
    records = read_records(file, ("question", "choices", "answerKey"), bad)
    for where, record in reporting_faults(file, records, bad):
        try:
            yield _question(record)
        except InputError as error:
            bad.report(where, str(error))


def _question(record: dict[str, Any]) -> Question:
    """Raises InputError for what is missing or of another form."""
    question, choices, answer = (record.get(name) for name in ("question", "choices", "answerKey"))
    if fault := text_fault(question):
        raise InputError(f'"question" {fault}')
    texts, labels = (
        choices.get(name) if isinstance(choices, dict) else None for name in ("text", "label")
    )
    if not isinstance(texts, list) or not isinstance(labels, list) or len(texts) != len(labels):
        raise InputError('"choices" is not {"text": [...], "label": [...]} of one length')
    if any(text_fault(text) for text in texts):
        raise InputError('a "text" of "choices" is not a string')
    if answer not in labels:
        raise InputError(f'"answerKey" {answer!r} is not among the labels {labels}')
    return Question([f"{question} {text}" for text in texts], labels.index(answer))


def _rows(file: Path, bad: BadInput) -> Iterator[str]:
    if file_format(file) in (".jsonl", ".parquet"):
        for where, record in reporting_faults(file, read_records(file, ["text"], bad), bad):
            if fault := text_fault(record.get("text")):
                bad.report(where, f'"text" {fault}')
            else:
                yield record["text"]
    else:
        yield "".join(line for _, line in reporting_faults(file, read_lines(file, bad), bad))
