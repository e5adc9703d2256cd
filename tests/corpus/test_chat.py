"""Conversations from JSON lines: three shapes read, every fault named with its file and line.

In: files written by the test. Out: facts about the messages and the errors.
"""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.chat import read_chat
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message

HELLO = [Message("user", "hi"), Message("assistant", "hello")]


def written(path: Path, *values: Any) -> Path:
    path.write_text("".join(json.dumps(value) + "\n" for value in values), "utf-8")
    return path


def turns(*pairs: tuple[str, Any]) -> dict[str, Any]:
    return {"messages": [{"role": role, "content": content} for role, content in pairs]}


def conversations(path: Path) -> list[list[Message]]:
    return list(read_chat(str(path), bad=BadInput()))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (turns(("user", "hi"), ("assistant", "hello")), HELLO),
        ({"prompt": "hi", "response": "hello", "id": 7}, HELLO),
        ({"instruction": "hi", "output": "hello"}, HELLO),
        ({"instruction": "hi", "input": "", "output": "hello"}, HELLO),
        ({"instruction": "hi", "input": None, "output": "hello"}, HELLO),
        (
            {"instruction": "Add.", "input": "1 2", "output": "3"},
            [Message("user", "Add.\n1 2"), Message("assistant", "3")],
        ),
        (
            turns(("system", "s"), ("user", " a"), ("assistant", "b\n"), ("user", "c")),
            [
                Message("system", "s"),
                Message("user", " a"),
                Message("assistant", "b\n"),
                Message("user", "c"),
            ],
        ),
    ],
)
def test_each_shape_is_read(tmp_path: Path, value: Any, expected: list[Message]) -> None:
    assert conversations(written(tmp_path / "a.jsonl", value)) == [expected]


def test_folders_globs_and_compressed_files_are_read(tmp_path: Path) -> None:
    line = json.dumps({"prompt": "hi", "response": "hello"}).encode()
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(line))
    (tmp_path / "a.jsonl").write_bytes(b"\n" + line)
    (tmp_path / "notes.txt").write_text("not a chat")
    assert conversations(tmp_path) == [HELLO, HELLO]
    assert conversations(tmp_path / "*.gz") == [HELLO]


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"question": "a", "answer": "b"}, "unknown shape"),
        ([1], "not a JSON object"),
        ({"messages": "hi"}, '"messages" is not a list'),
        ({"messages": ["hi"]}, '"messages" is not a list of objects'),
        ({"messages": []}, "no assistant turn"),
        ({"messages": [{"content": "hi"}]}, 'a message has no "role"'),
        ({"messages": [{"role": "user"}]}, "the user turn's content is missing"),
        (turns(("user", 5)), "the user turn's content is not a string"),
        (turns(("tool", "x"), ("assistant", "y")), "unknown role 'tool'"),
        (turns(("user", "x")), "no assistant turn"),
        (turns(("user", "x"), ("assistant", " ")), "the assistant turn's content is empty"),
        (turns(("system", ""), ("assistant", "y")), "the system turn's content is empty"),
        (turns(("assistant", "x"), ("user", "y")), "an assistant turn comes before any user"),
        (turns(("system", "s"), ("assistant", "x")), "an assistant turn comes before any user"),
        (turns(("user", "\ud800"), ("assistant", "x")), "the user turn's content holds half"),
        ({"prompt": "x"}, "the assistant turn's content is missing"),
        ({"response": "x"}, "the user turn's content is missing"),
        ({"prompt": "", "response": "x"}, "the user turn's content is empty"),
        ({"instruction": "x", "output": ""}, "the assistant turn's content is empty"),
        ({"instruction": "x", "input": 5, "output": "y"}, '"input" is not a string'),
        ({"instruction": 5, "input": "z", "output": "y"}, "the user turn's content is not"),
        ({"output": "y"}, "the user turn's content is missing"),
    ],
)
def test_a_fault_names_the_file_and_line(tmp_path: Path, value: Any, message: str) -> None:
    good = {"prompt": "hi", "response": "hello"}
    path = written(tmp_path / "a.jsonl", good, value, good)
    with pytest.raises(InputError) as raised:
        conversations(path)
    assert str(raised.value).startswith(f"{path}:2: {message}")
    bad = BadInput(skip=True)
    assert list(read_chat(str(path), bad=bad)) == [HELLO, HELLO]
    assert bad.count == 1


def test_broken_files_are_errors(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"prompt": "a", \n')
    with pytest.raises(InputError, match=r"a\.jsonl:1: not a line of JSON"):
        conversations(tmp_path / "a.jsonl")
    (tmp_path / "b.jsonl").write_text("")
    with pytest.raises(InputError, match=r"b\.jsonl: empty file"):
        conversations(tmp_path / "b.jsonl")
    (tmp_path / "c.txt").write_text("hi")
    with pytest.raises(InputError, match=r"c\.txt: unknown suffix"):
        conversations(tmp_path / "c.txt")
    (tmp_path / "d.jsonl.gz").write_text("hi")
    with pytest.raises(InputError, match=r"d\.jsonl\.gz:1: corrupt"):
        conversations(tmp_path / "d.jsonl.gz")
    with pytest.raises(InputError, match="no such file"):
        conversations(tmp_path / "e.jsonl")
