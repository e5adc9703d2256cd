import gzip
import json
import lzma
from pathlib import Path

import pytest
import torch

from tinymemorylm.corpus import BadInput
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.minimal_pairs import (
    Pair,
    PairFile,
    folder_means,
    measure_pairs,
    read_pairs,
)
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.evaluation.statistics import accuracy
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture
def pairs(texts: list[str]) -> list[Pair]:
    """Beginnings of stories, and the same with their words turned round."""
    starts = [" ".join(text.split()[:8]) for text in texts[:30]]
    return [Pair(start, " ".join(start.split()[::-1])) for start in starts]


def blimp(pairs: list[Pair]) -> str:
    rows = [{"sentence_good": good, "sentence_bad": bad, "UID": "x"} for good, bad in pairs]
    return "".join(json.dumps(row) + "\n" for row in rows)


def zorro(pairs: list[Pair]) -> str:
    return "".join(f"{bad}\n{good}\n" for good, bad in pairs)


@torch.no_grad()
def logprob(model: Transformer, tokenizer: Tokenizer, sentence: str) -> float:
    ids = tokenizer.encode(sentence)
    logits = model.logits(model(torch.tensor([[1, *ids[:-1]]])))[0].double()
    return float(logits.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum())


def test_a_pair_is_won_by_the_whole_sentence_after_bos(
    model: Transformer, tokenizer: Tokenizer, pairs: list[Pair]
):
    won = [
        logprob(model, tokenizer, pair.good) > logprob(model, tokenizer, pair.bad) for pair in pairs
    ]
    assert 0 < sum(won) < len(won)  # the fixture has some of both
    rows = measure_pairs(Scorer(model, tokenizer), [PairFile("x", pairs)])
    assert rows == [{"path": "x", **accuracy(sum(won), len(won))}]


def test_swapped_pairs_win_what_was_lost_and_ties_are_half(
    model: Transformer, tokenizer: Tokenizer, pairs: list[Pair]
):
    swapped = [Pair(pair.bad, pair.good) for pair in pairs]
    tied = [Pair(pair.good, pair.good) for pair in pairs]
    files = [PairFile("a", pairs), PairFile("b", swapped), PairFile("c", tied)]
    a, b, c = (row["accuracy"] for row in measure_pairs(Scorer(model, tokenizer), files))
    assert a + b == pytest.approx(1, abs=2e-5) and a != b
    assert c == 0.5
    (mixed,) = measure_pairs(Scorer(model, tokenizer), [PairFile("d", pairs + tied)])
    assert mixed["accuracy"] == pytest.approx((a + 0.5) / 2, abs=1e-5)


def test_a_file_has_the_same_row_alone_as_among_others(
    model: Transformer, tokenizer: Tokenizer, pairs: list[Pair]
):
    scorer = Scorer(model, tokenizer)
    files = [PairFile("a", pairs[:9]), PairFile("b", pairs[9:]), PairFile("c", pairs[3:20])]
    together = measure_pairs(scorer, files)
    assert together == [row for file in files for row in measure_pairs(scorer, [file])]
    assert together[::-1] == measure_pairs(scorer, files[::-1])


def test_every_form_of_a_file_holds_the_same_pairs(tmp_path: Path, pairs: list[Pair]):
    (tmp_path / "a.jsonl").write_text(blimp(pairs))
    (tmp_path / "b.txt").write_text(zorro(pairs) + "\n")  # an empty last line is none
    (tmp_path / "c.jsonl.gz").write_bytes(gzip.compress(blimp(pairs).encode()))
    (tmp_path / "d.txt.xz").write_bytes(lzma.compress(zorro(pairs).replace("\n", "\r\n").encode()))
    (tmp_path / "notes.md").write_text("not pairs")
    found = read_pairs([str(tmp_path)], BadInput())
    assert [Path(file.path).name for file in found] == [
        "a.jsonl",
        "b.txt",
        "c.jsonl.gz",
        "d.txt.xz",
    ]
    assert all(file.pairs == pairs for file in found)


def test_parquet_as_the_hub_has_it(tmp_path: Path, pairs: list[Pair]):
    pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    columns = {"sentence_good": [p.good for p in pairs], "sentence_bad": [p.bad for p in pairs]}
    pq.write_table(pa.table({"UID": ["x"] * len(pairs), **columns}), tmp_path / "a.parquet")
    (file,) = read_pairs([str(tmp_path / "a.parquet")], BadInput())
    assert file.pairs == pairs


def test_files_come_in_the_order_given_under_the_names_given(
    tmp_path: Path, pairs: list[Pair], monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("z").mkdir()
    for name in ("z/b.txt", "z/a.txt", "c.txt"):
        Path(name).write_text(zorro(pairs))
    found = read_pairs(["./c.txt", "z", "z/b.txt"], BadInput())
    assert [file.path for file in found] == ["./c.txt", "z/a.txt", "z/b.txt", "z/b.txt"]


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        (
            "a.txt",
            "one\ntwo\nthree\n",
            "a.txt:3: a last sentence without twin: the lines",
        ),
        ("a.txt", "one\ntwo\n\nfour\n", "a.txt:3: an empty line where a sentence of a pair"),
        ("a.txt", "one\ntwo\nthree\n \n", "a.txt:4: an empty line where a sentence of a pair"),
        ("a.txt", "\n", "a.txt: empty file"),
        ("a.jsonl", "", "a.jsonl: empty file"),
        ("a.jsonl", "[1]\n", "a.jsonl:1: not a JSON object"),
        ("a.jsonl", '{"sentence_good": "a",\n', "a.jsonl:1: not a line of JSON"),
        ("a.jsonl", '\n{"sentence_good": "a"}\n', 'a.jsonl:2: "sentence_bad" is missing'),
        ("a.jsonl", '{"sentence_good": 1}', 'a.jsonl:1: "sentence_good" is not a string'),
        (
            "a.jsonl",
            '{"sentence_good": "a", "sentence_bad": " "}',
            'a.jsonl:1: "sentence_bad" is empty',
        ),
        ("a.csv", "one,two\n", "a.csv: unknown suffix: pairs are .jsonl, .txt"),
        ("a.txt.gz", "plain", "a.txt.gz:1: corrupt compressed data"),
    ],
)
def test_a_fault_names_its_file_and_line(tmp_path: Path, name: str, content: str, said: str):
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError) as raised:
        read_pairs([str(tmp_path / name)], BadInput())
    assert said in str(raised.value)


def test_skipped_lines_leave_the_others_in_step(tmp_path: Path):
    lines = [b"a bad", b"a good", b"\xff", b"lost", b"", b"lost too", b"c bad", b"c good", b"over"]
    (tmp_path / "a.txt").write_bytes(b"\n".join(lines))
    bad = BadInput(skip=True)
    (file,) = read_pairs([str(tmp_path / "a.txt")], bad)
    assert file.pairs == [Pair("a good", "a bad"), Pair("c good", "c bad")]
    assert bad.count == 3
    (tmp_path / "b.txt").write_bytes(b"alone")
    with pytest.raises(InputError, match=r"b\.txt: no pair of sentences in it"):
        read_pairs([str(tmp_path / "b.txt")], BadInput(skip=True))


def test_a_sentence_beyond_the_context_is_named(model: Transformer, tokenizer: Tokenizer):
    files = [PairFile("x.txt", [Pair("a b", "b a"), Pair("q9 " * 200, "short")])]
    with pytest.raises(InputError, match=r"x\.txt: 'q9 q9 .*the context holds 256: leave"):
        measure_pairs(Scorer(model, tokenizer), files)


def test_the_mean_of_a_folder_weighs_its_files_alike():
    rows = [
        {"path": "z/a.txt", **accuracy(3, 4)},
        {"path": "alone.txt", **accuracy(1, 4)},
        {"path": "z/b.txt", **accuracy(50, 100)},
    ]
    assert folder_means(rows) == [{"path": "z", "files": 2, **accuracy(0.625 * 104, 104)}]
