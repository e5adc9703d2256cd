"""Minimal pairs: how often a model finds the grammatical one of two sentences the likelier.

In: a model and files of pairs, as BLiMP (JSON lines) or Zorro (text) has them. Out: a row for each
file, with accuracy and interval, and the mean of each folder.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
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
from tinymemorylm.evaluation.scoring import Scorer, Window
from tinymemorylm.evaluation.statistics import accuracy

FORMATS = (".jsonl", ".txt", ".parquet")
FIELDS = ("sentence_good", "sentence_bad")


class Pair(NamedTuple):
    good: str
    bad: str


class PairFile(NamedTuple):
    path: str
    pairs: list[Pair]


def read_pairs(sources: Sequence[str], bad: BadInput) -> list[PairFile]:
    """The pairs of each file that the sources name, in their order, folders and globs sorted.

    .jsonl (.parquet): objects of `sentence_good` and `sentence_bad`, as in BLiMP (Warstadt et al.
    2020). .txt: an ungrammatical sentence a line, its grammatical twin on the next, as in Zorro
    (Huebner et al. 2021). Raises InputError for what can't be read, unless `bad` skips it, and
    for a file with no pair.
    """
    found = []
    for source in sources:
        for file in find_files(source, FORMATS):
            path = source if Path(source) == file else str(file)
            pairs = list(reporting_faults(file, _pairs(file, bad), bad))
            if not pairs:
                raise InputError(f"{path}: no pair of sentences in it")
            found.append(PairFile(path, pairs))
    return found


def _pairs(file: Path, bad: BadInput) -> Iterator[Pair]:
    match file_format(file):
        case ".jsonl" | ".parquet":
            yield from _records(file, bad)
        case ".txt":
            yield from _twin_lines(file, bad)
        case _:
            bad.report(str(file), f"unknown suffix: pairs are {', '.join(FORMATS)}")


def _records(file: Path, bad: BadInput) -> Iterator[Pair]:
    for where, record in read_records(file, FIELDS, bad):
        faults = [f'"{name}" {fault}' for name in FIELDS if (fault := _fault(record.get(name)))]
        if faults:
            bad.report(where, faults[0])
        else:
            yield Pair(record[FIELDS[0]], record[FIELDS[1]])


def _fault(sentence: Any) -> str | None:
    return text_fault(sentence) or (None if sentence.strip() else "is empty")


def _twin_lines(file: Path, bad: BadInput) -> Iterator[Pair]:
    """Lines 1 and 2, 3 and 4, ...; by number, so that a bad line leaves the others in step."""
    number, first = 0, None  # the ungrammatical sentence last read, where its twin is awaited
    for number, line in read_lines(file, bad):
        sentence = line.strip()
        if number % 2:
            first = sentence
        elif first is not None:
            if first and sentence:
                yield Pair(good=sentence, bad=first)
            elif first or sentence:
                empty = number - (not first)
                bad.report(f"{file}:{empty}", "an empty line where a sentence of a pair should be")
            first = None
    if first:
        bad.report(f"{file}:{number}", "a last sentence without twin: the lines must come in twos")


def measure_pairs(scorer: Scorer, files: Sequence[PairFile]) -> list[dict[str, Any]]:
    """A row for each file: the share of its pairs whose good sentence is the likelier, ties half.

    A sentence's log-probability is the sum over its tokens after <bos>. Raises InputError for a
    sentence beyond the context.
    """
    windows = [window for file in files for window in _windows(scorer, file)]
    points = iter(pair_points(scorer.totals(windows, "minimal pairs")))
    return [
        {"path": path, **accuracy(sum(islice(points, len(pairs))), len(pairs))}
        for path, pairs in files
    ]


def _windows(scorer: Scorer, file: PairFile) -> Iterator[Window]:
    sentences = [sentence for pair in file.pairs for sentence in pair]
    for sentence, ids in zip(sentences, scorer.tokenizer.encode_batch(sentences), strict=True):
        if len(ids) > scorer.context_length:
            raise InputError(
                f"{file.path}: {sentence[:40]!r}... has {len(ids)} tokens and the context holds "
                f"{scorer.context_length}: leave that pair out"
            )
        yield Window([scorer.tokenizer.bos_id, *ids], len(ids))


def pair_points(nats: Sequence[float]) -> list[float]:
    """Of nll two by two: 1 where the first is the lower, 0.5 where they tie, else 0."""
    return [
        (good < bad) + (good == bad) / 2 for good, bad in zip(nats[::2], nats[1::2], strict=True)
    ]


def folder_means(rows: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """A row for each folder of several files: the mean of their accuracies, and pairs in all.

    The interval is that of as many pairs drawn from all alike, a little wider than it need be.
    """
    folders: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        folders.setdefault(str(Path(row["path"]).parent), []).append(row)
    means = []
    for folder, found in folders.items():
        if len(found) > 1:
            n = sum(row["n"] for row in found)
            mean = sum(row["accuracy"] for row in found) / len(found)
            means.append({"path": folder, "files": len(found), **accuracy(mean * n, n)})
    return means
