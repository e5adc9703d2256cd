"""Readers of foreign files, fed near-misses and nonsense: one clear line, or a value."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import fuzz
from fuzz import READERS, feed

LONG = "9" * 5000
DEEP = "[" * 100_000
NONSENSE = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


@pytest.mark.parametrize("name", READERS)
def test_a_good_file_is_taken_and_nonsense_is_not(name: str, folder: Path):
    good = READERS[name][2](folder)
    assert feed(name, good, folder)
    for bad in (
        b"\xff\xfe",
        b"\x00" * 50,
        DEEP.encode(),
        LONG.encode(),
        f'{{"a":{LONG}}}'.encode(),
    ):
        assert not feed(name, bad, folder), bad[:20]


@pytest.mark.parametrize("name", READERS)
@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_damaged_files_are_clear_errors(name: str, folder: Path, data: st.DataObject):
    content = bytearray(READERS[name][2](folder))
    for _ in range(data.draw(st.integers(1, 5), label="changes")):
        place = data.draw(st.integers(0, len(content)), label="place")
        new = data.draw(st.binary(max_size=6), label="new")
        content[place : place + data.draw(st.integers(0, 6), label="cut")] = new
    feed(name, bytes(content), folder)


@pytest.mark.parametrize("name", ["config", "tokenizer", "lines", "chats"])
@settings(max_examples=80, deadline=None)
@given(value=NONSENSE, place=st.integers(0, 10_000))
@example(value=[], place=0)
def test_any_json_in_any_place_is_a_clear_error(name: str, folder: Path, value: object, place: int):
    """A value of a good file, chosen at random, is another one."""
    first, *others = READERS[name][2](folder).decode().partition("\n" if name in LINES else "\0")
    document = json.loads(first)
    places = [*_places(document)]
    container, key = places[place % len(places)]
    container[key] = value
    feed(name, (json.dumps(document) + "".join(others)).encode(), folder)


def test_json_that_only_python_reads_is_no_tokenizer(folder: Path):
    good = READERS["tokenizer"][2](folder)
    assert not feed("tokenizer", good.replace(b"{", b'{"x": NaN,', 1), folder)


@pytest.mark.slow
def test_ten_minutes_of_coverage_guided_bytes_find_nothing():
    pytest.importorskip("atheris", reason="pip install atheris")
    harness = Path(fuzz.__file__).with_name("fuzz_long.py")
    path = os.pathsep.join([str(harness.parent), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(harness), "--seconds", "600"],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert all(reader["fed"] > 0 for reader in json.loads(done.stdout)["readers"].values())


LINES = ("lines", "chats")


def _places(value: object):
    """(container, key) of every value within, at any depth."""
    items = value.items() if isinstance(value, dict) else enumerate(value)  # type: ignore
    for key, inner in list(items):
        yield value, key
        if isinstance(inner, dict | list) and inner:
            yield from _places(inner)


@pytest.mark.parametrize("name", ["recipe", "ablation"])
@settings(max_examples=60, deadline=None)
@given(
    line=st.integers(0, 30),
    value=st.sampled_from(
        ["nan", "-inf", LONG, "-1", "0", "1e400", "true", "[]", '"x"', "{}", "1979-05-27", "''"]
    ),
)
def test_any_toml_value_in_any_place_is_a_clear_error(
    name: str, folder: Path, line: int, value: str
):
    lines = READERS[name][2](folder).decode().splitlines()
    fields = [i for i, text in enumerate(lines) if "=" in text]
    chosen = fields[line % len(fields)]
    lines[chosen] = f"{lines[chosen].partition('=')[0]}= {value}"
    feed(name, "\n".join(lines).encode(), folder)
