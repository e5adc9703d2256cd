"""Documents from files: every kind read, every fault named with its file and line.

In: files written by the test. Out: facts about the documents and the errors.
"""

import gzip
import json
import lzma
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.local import _split_lines, find_files, read_lines, read_local
from tinymemorylm.errors import InputError

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")
zstandard = pytest.importorskip("zstandard")

TWO = "one\ntwo\n<|endoftext|>\nthree\n"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": lambda data: zstandard.ZstdCompressor().compress(data),
}


def documents(path: Path | str, separator: str = "<|endoftext|>") -> list[str]:
    return list(read_local(str(path), document_separator=separator, bad=BadInput()))


def skipping(path: Path | str) -> tuple[list[str], BadInput]:
    bad = BadInput(skip=True)
    return list(read_local(str(path), bad=bad)), bad


def written(path: Path, content: str | bytes) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def json_lines(*texts: str) -> bytes:
    return "".join(json.dumps({"text": text}) + "\n" for text in texts).encode()


def parquet(path: Path, column: str, values: list[object]) -> Path:
    pq.write_table(pa.table({column: values}), path)
    return path


@pytest.mark.parametrize(
    ("text", "separator", "expected"),
    [
        (TWO, "<|endoftext|>", ["one\ntwo", "three\n"]),
        (TWO.replace("\n", "\r\n"), "<|endoftext|>", ["one\r\ntwo", "three\r\n"]),
        (TWO.rstrip("\n"), "<|endoftext|>", ["one\ntwo", "three"]),
        ("a\n\nb\n", "<|endoftext|>", ["a\n\nb\n"]),
        ("a <|endoftext|>\nb", "<|endoftext|>", ["a <|endoftext|>\nb"]),
        ("<|endoftext|>\n \n<|endoftext|>\na\n<|endoftext|>", "<|endoftext|>", ["a"]),
        ("a\n\n<|endoftext|>\n\nb", "<|endoftext|>", ["a\n", "\nb"]),
        ("a\nb\n\n\n \nc\n", "blank", ["a\nb", "c"]),
        ("a\r\n\r\nc\r\n", "blank", ["a", "c"]),
        ("a\n\nb \r\nc", "line", ["a", "b ", "c"]),
        ("a\n***\nb\n", "***", ["a", "b\n"]),
        ("\ufeffa\n\ufeffb", "line", ["a", "\ufeffb"]),
        ("a\u2028b\x0cc\x85d", "line", ["a\u2028b\x0cc\x85d"]),
    ],
)
def test_a_separator_divides_a_text_file(
    tmp_path: Path, text: str, separator: str, expected: list[str]
) -> None:
    assert documents(written(tmp_path / "a.txt", text), separator) == expected


@given(st.lists(st.text("ab \n\r", max_size=8)))
def test_joining_documents_with_the_separator_and_reading_gives_them_back(texts: list[str]) -> None:
    joined = "\n=====\n".join(texts)
    lines = ((number, line) for number, line in enumerate(joined.split("\n"), 1))
    with_newlines = ((n, line + "\n" * (n <= joined.count("\n"))) for n, line in lines)
    read = [text for text in _split_lines(with_newlines, "=====") if text.strip()]
    # A carriage return right before a newline belongs to it.
    *before, last = texts or [""]
    expected = [text.removesuffix("\r") for text in before] + [last]
    assert read == [text for text in expected if text.strip()]


@pytest.mark.parametrize("suffix", ["", *COMPRESS])
def test_text_and_json_lines_are_read_compressed_or_not(tmp_path: Path, suffix: str) -> None:
    compress = COMPRESS.get(suffix, bytes)
    text = written(tmp_path / f"a.txt{suffix}", compress(TWO.encode()))
    lines = written(tmp_path / f"a.v1.JSONL{suffix}", compress(json_lines("é\n", "  ", "b")))
    assert documents(text) == ["one\ntwo", "three\n"]
    assert documents(lines) == ["é\n", "b"]


@pytest.mark.parametrize("suffix", COMPRESS)
def test_files_of_several_compressed_parts_are_read_whole(tmp_path: Path, suffix: str) -> None:
    parts = [COMPRESS[suffix](text.encode()) for text in ("one\n", "two\n", "x" * 300_000)]
    assert documents(written(tmp_path / f"a.txt{suffix}", b"".join(parts))) == [
        "one\ntwo\n" + "x" * 300_000
    ]


def test_parquet_text_columns_are_read(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "text", [f"é{n}" for n in range(3000)])
    assert documents(path) == [f"é{n}" for n in range(3000)]


def test_folders_are_read_recursively_and_sorted_leaving_out_other_files(tmp_path: Path) -> None:
    for name in ("b.txt", "a/z.txt", "a/y.jsonl", "README.md", ".hidden.txt", ".git/c.txt"):
        content = json_lines(name) if name.endswith("jsonl") else name.encode()
        written(tmp_path / name, content)
    assert documents(tmp_path) == ["a/y.jsonl", "a/z.txt", "b.txt"]
    assert documents(f"{tmp_path}/*.txt") == ["b.txt"]
    assert documents(f"{tmp_path}/**/*.txt") == ["a/z.txt", "b.txt"]
    assert documents(f"{tmp_path}/[a]*") == ["a/y.jsonl", "a/z.txt"]


def test_a_file_whose_name_looks_like_a_glob_is_that_file(tmp_path: Path) -> None:
    assert documents(written(tmp_path / "a[1].txt", "x")) == ["x"]


def test_documents_stream(tmp_path: Path) -> None:
    path = written(tmp_path / "a.txt", b"x\n<|endoftext|>\n" * 100_000 + b"\xff")
    stream = read_local(str(path), bad=BadInput())
    assert next(stream) == "x"  # the fault at the end is not reached


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.txt", b"good\nb\xffd\n", "a.txt:2: not UTF-8 at byte 2 of the line"),
        ("a.txt", b"", "a.txt: empty file"),
        ("a.txt", b" \n\n", "a.txt: empty file"),
        ("a.txt", b"\xef\xbb\xbf", "a.txt: empty file"),
        ("a.csv", b"x", "a.csv: unknown suffix"),
        ("a", b"x", "a: unknown suffix"),
        ("a.parquet.gz", b"x", "a.parquet.gz: unknown suffix"),
        ("a.gz", b"x", "a.gz: unknown suffix"),
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "a.jsonl:2: not a line of JSON"),
        ("a.jsonl", b"\n[1]\n", "a.jsonl:2: not a JSON object"),
        ("a.jsonl", b'{"body": "a"}\n', 'a.jsonl:1: "text" is missing'),
        ("a.jsonl", b'{"text": 5}\n', 'a.jsonl:1: "text" is not a string'),
        ("a.jsonl", b'{"text": "\\ud800"}\n', 'a.jsonl:1: "text" holds half of a surrogate'),
        ("a.jsonl", b"[" * 100_000, "a.jsonl:1: not a line of JSON"),
        ("a.jsonl", b'{"text": ' + b"9" * 5000 + b"}", "a.jsonl:1: not a line of JSON"),
        ("a.jsonl", b"\n", "a.jsonl: empty file"),
        ("a.txt.gz", b"plain", "a.txt.gz:1: corrupt compressed data"),
        ("a.txt.xz", b"plain", "a.txt.xz:1: corrupt compressed data"),
        ("a.txt.zst", b"plain", "a.txt.zst:1: corrupt compressed data"),
        ("a.parquet", b"plain", "a.parquet:1: corrupt Parquet data"),
    ],
)
def test_a_fault_names_the_file_and_line(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    path = written(tmp_path / name, content)
    with pytest.raises(InputError) as raised:
        documents(path)
    assert str(raised.value).startswith(f"{tmp_path}/{message}")
    assert "\n" not in str(raised.value)
    found, bad = skipping(path)
    assert bad.count == 1
    assert bad.examples[0].startswith(f"{tmp_path}/{message}")
    assert len(found) <= 1


@pytest.mark.parametrize("suffix", COMPRESS)
def test_compressed_files_cut_short_are_corrupt(tmp_path: Path, suffix: str) -> None:
    lines = "".join(f"{n * 7919 % 10007}\n" for n in range(20_000))
    whole = COMPRESS[suffix](f"kept\n<|endoftext|>\n{lines}".encode())
    path = written(tmp_path / f"a.txt{suffix}", whole[:-2000])
    with pytest.raises(InputError, match=r":\d+: corrupt compressed data"):
        documents(path)
    found, bad = skipping(path)
    assert bad.count == 1
    assert found in ([], ["kept"])  # the document that was cut is left out


def test_skipped_lines_are_dropped_and_counted(tmp_path: Path) -> None:
    written(tmp_path / "a.txt", b"one\n\xff\nthree\n")
    written(tmp_path / "b.jsonl", json_lines("x") + b"{\n" * 30 + json_lines("y"))
    written(tmp_path / "c.txt", b"")
    found, bad = skipping(tmp_path)
    assert found == ["one\nthree\n", "x", "y"]
    assert bad.count == 32
    assert len(bad.examples) == 10


def test_parquet_faults_name_the_file_and_row(tmp_path: Path) -> None:
    path = parquet(tmp_path / "a.parquet", "text", ["a", None, "c"])
    with pytest.raises(InputError, match=r'a\.parquet:2: "text" is missing'):
        documents(path)
    assert skipping(path)[0] == ["a", "c"]
    with pytest.raises(InputError, match=r'b\.parquet: it has no "text" column'):
        documents(parquet(tmp_path / "b.parquet", "body", ["a"]))
    with pytest.raises(InputError, match=r'c\.parquet:1: "text" is not a string'):
        documents(parquet(tmp_path / "c.parquet", "text", [1]))


@pytest.mark.parametrize("path", ["none.txt", "none/*.txt", "empty"])
@pytest.mark.parametrize("skip", [False, True])
def test_a_missing_path_is_always_an_error(tmp_path: Path, path: str, skip: bool) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=path.replace("*", r"\*")):
        list(read_local(f"{tmp_path}/{path}", bad=BadInput(skip=skip)))


@pytest.mark.parametrize("separator", ["", "  ", "a\nb"])
def test_a_separator_that_no_line_can_be_is_an_error(tmp_path: Path, separator: str) -> None:
    with pytest.raises(InputError, match="document separator"):
        documents(written(tmp_path / "a.txt", "x"), separator)


@pytest.mark.parametrize(("name", "module"), [("a.txt.zst", "zstandard"), ("a.parquet", "pyarrow")])
def test_a_missing_library_is_an_error_with_the_pip_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=r"pip install 'tinymemorylm\["):
        documents(written(tmp_path / name, b"x"))


def test_a_path_may_begin_at_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert find_files("~/a.txt" if written(tmp_path / "a.txt", "x") else "") == [tmp_path / "a.txt"]


def test_lines_end_at_newlines_only_wherever_blocks_end(tmp_path: Path) -> None:
    lines = [f"{'é' * n}\n" for n in range(600)]
    path = written(tmp_path / "a.txt", "".join(lines))
    read: Iterator[tuple[int, str]] = read_lines(path, BadInput())
    assert list(read) == list(enumerate(lines, 1))
