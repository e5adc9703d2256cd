"""Sources: paths and procedural worlds by name, their sizes and digests.

In: sources. Out: facts about what they give.
"""

import hashlib
from itertools import islice
from pathlib import Path

import pytest

from tinymemorylm.corpus import (
    BadInput,
    parse_storyworld,
    read_conversations,
    read_documents,
    source_digest,
    total_bytes_hint,
)
from tinymemorylm.corpus.storyworld import conversations, stories
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("storyworld:0:300000", (0, 300_000)),
        ("storyworld:7:300KB", (7, 300_000)),
        ("storyworld:12:4MB", (12, 4_000_000)),
        ("storyworld:1:2gb", (1, 2_000_000_000)),
        ("storyworld:1:5B", (1, 5)),
        ("stories.txt", None),
    ],
)
def test_a_storyworld_source_is_a_seed_and_a_size(
    source: str, expected: tuple[int, int] | None
) -> None:
    assert parse_storyworld(source) == expected


@pytest.mark.parametrize(
    "rest",
    [
        "",
        "1",
        "1:",
        ":5",
        "-1:5",
        "1:0",
        "1:5TB",
        "1:1.5MB",
        "1:2:3",
        "a:5",
        "1:5 MB",
        "1:" + "9" * 99,
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_a_malformed_storyworld_source_is_an_input_error(rest: str, skip: bool) -> None:
    with pytest.raises(InputError, match="write storyworld:SEED:BYTES"):
        list(read_documents([f"storyworld:{rest}"], bad=BadInput(skip=skip)))


def test_sources_are_read_in_the_order_given(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "b.txt").write_text("b")
    sources = [f"{tmp_path}/b.txt", "storyworld:3:2000", f"{tmp_path}/a.txt"]
    expected = ["b", *(story.text for story in stories(3, 2000)), "a"]
    assert list(read_documents(sources, bad=BadInput())) == expected
    assert len(expected) > 2


def test_the_separator_reaches_the_files(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a\nb\n")
    read = read_documents([str(tmp_path)], document_separator="line", bad=BadInput())
    assert list(read) == ["a", "b"]


def test_a_missing_path_is_an_error_before_anything_is_read(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("a")
    with pytest.raises(InputError, match="no such file"):
        next(read_documents([f"{tmp_path}/a.txt", f"{tmp_path}/none.txt"], bad=BadInput()))


def test_conversations_come_from_storyworld_and_files(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "hi", "response": "hello"}\n')
    first = next(iter(conversations(5, 1000)))
    stream = read_conversations(["storyworld:5:1", f"{tmp_path}/a.jsonl"], bad=BadInput())
    assert list(islice(stream, 2)) == [
        [Message(role, content) for role, content in first.turns],
        [Message("user", "hi"), Message("assistant", "hello")],
    ]


def test_sizes_are_hinted_when_they_can_be_known(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    (tmp_path / "b.jsonl").write_text("{}")
    assert total_bytes_hint([str(tmp_path), "storyworld:1:1KB"]) == 1005
    (tmp_path / "c.txt.gz").write_text("")
    assert total_bytes_hint([str(tmp_path)]) is None
    with pytest.raises(InputError):
        total_bytes_hint(["none.txt"])


def test_digests_are_of_each_files_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("abc")
    digests = source_digest([str(tmp_path), "storyworld:1:1KB"])
    assert digests == {
        str(tmp_path / "a.txt"): hashlib.sha256(b"abc").hexdigest(),
        "storyworld:1:1KB": "storyworld:1:1KB",
    }
