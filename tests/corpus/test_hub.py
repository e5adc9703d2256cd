"""Data sets of the hub: from a folder laid out as it has them, and from a hub on this machine."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fake_hub import COMMIT, fake_hub

from tinymemorylm.corpus import (
    BadInput,
    hub,
    read_conversations,
    read_documents,
    source_digest,
    total_bytes_hint,
)
from tinymemorylm.corpus.hub import HubSource, parse_hub
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.tokenizer import Message

needs_hub = pytest.mark.skipif(
    importlib.util.find_spec("datasets") is None, reason="the hub extra is not installed"
)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("hf:a/b", HubSource("a/b")),
        ("hf:a/b:validation", HubSource("a/b", "validation")),
        ("hf:a/b?bytes=5MB", HubSource("a/b", n_bytes=5_000_000)),
        (
            "hf:a/b:test?column=tale&config=en&bytes=7&revision=v1",
            HubSource("a/b", "test", "en", "tale", 7, "v1"),
        ),
        ("alpaca", HubSource("tatsu-lab/alpaca")),
        ("hf:dolly", HubSource("databricks/databricks-dolly-15k")),
        (
            "tinystories:validation",
            HubSource("roneneldan/TinyStories", "validation", n_bytes=10**8),
        ),
        ("tinystories?bytes=all", HubSource("roneneldan/TinyStories")),
        (
            "fineweb-edu?config=sample-100BT&bytes=1GB",
            HubSource("HuggingFaceFW/fineweb-edu", config="sample-100BT", n_bytes=10**9),
        ),
        ("books/alpaca", None),
        ("alpaca.jsonl", None),
        ("storyworld:1:5", None),
    ],
)
def test_a_hub_source_names_a_data_set_and_a_part_of_it(
    source: str, expected: HubSource | None, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert parse_hub(source) == expected
    if expected:
        assert parse_hub(str(expected)) == expected  # provenance can be given back as a source


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("hf:", "write hf:owner/name"),
        ("hf:stories", "or one of tinystories, fineweb-edu, alpaca, dolly"),
        ("hf:a/b/c", "write hf:owner/name"),
        ("hf:a/b?bytes=lots", "bytes=lots is no size; write bytes=50MB"),
        ("hf:a/b?bytes=0", "bytes=0 is no size"),
        ("hf:a/b?columm=text", "unknown option columm=text"),
        ("alpaca?column=", "unknown option column="),
    ],
)
@pytest.mark.parametrize("skip", [False, True])
def test_a_malformed_hub_source_is_an_input_error(source: str, message: str, skip: bool):
    with pytest.raises(InputError, match=message.replace("?", r"\?")):
        list(read_documents([source], bad=BadInput(skip=skip)))


def test_a_folder_of_a_shortcuts_name_comes_first(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dolly").mkdir()
    (tmp_path / "dolly" / "a.txt").write_text("hello, dolly")
    assert list(read_documents(["dolly"], bad=BadInput())) == ["hello, dolly"]
    assert parse_hub("hf:dolly:train") == hub.SHORTCUTS["dolly"]


def test_without_the_extra_the_error_says_what_to_install(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(hub.importlib.util, "find_spec", lambda name: None)
    (tmp_path / "a.txt").write_text("a")
    sources = [f"{tmp_path}/a.txt", "tinystories"]
    with pytest.raises(InputError, match=r"pip install 'tinymemorylm\[hub\]'"):
        next(read_documents(sources, bad=BadInput()))


def test_sizes_are_hinted_when_a_number_of_bytes_is_named():
    assert total_bytes_hint(["hf:a/b?bytes=5KB", "storyworld:1:1KB"]) == 6000
    assert total_bytes_hint(["hf:a/b", "storyworld:1:1KB"]) is None


# ---------------------------------------------------------------- a folder as the hub has it


def write_parquet(path: Path, columns: dict[str, list]) -> None:
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=100)


def write_jsonl(path: Path, rows: list) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def tales(tmp_path: Path) -> Path:
    """Two shards of training and one of validation, the text under `story`."""
    folder = tmp_path / "tales"
    for shard in range(2):
        stories = [f"tale {shard}.{i}" for i in range(300)]
        numbered = {"number": list(range(300)), "story": stories}
        write_parquet(folder / "data" / f"train-0000{shard}-of-00002.parquet", numbered)
    held_out = {"number": [1, 2, 3], "story": ["a", " \n", "b"]}
    write_parquet(folder / "data" / "validation-00000-of-00001.parquet", held_out)
    return folder


@needs_hub
def test_documents_come_in_the_data_sets_order(tales: Path):
    expected = [f"tale {shard}.{i}" for shard in range(2) for i in range(300)]
    assert list(read_documents([f"hf:{tales}"], bad=BadInput())) == expected
    assert list(read_documents([f"hf:{tales}:validation"], bad=BadInput())) == ["a", "b"]


@needs_hub
def test_a_subset_ends_with_the_document_that_fills_it(tales: Path):
    read = list(read_documents([f"hf:{tales}?bytes=20"], bad=BadInput()))
    assert read == ["tale 0.0", "tale 0.1", "tale 0.2"]


@needs_hub
def test_configs_are_the_ones_of_the_data_sets_card(tmp_path: Path):
    for name in ("en", "de"):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": name}])
    listed = [{"config_name": n, "data_files": f"{n}.jsonl"} for n in ("en", "de")]
    (tmp_path / "README.md").write_text(f"---\nconfigs: {json.dumps(listed)}\n---\n")
    assert list(read_documents([f"hf:{tmp_path}?config=de"], bad=BadInput())) == ["de"]
    with pytest.raises(InputError, match=r"'fr' not found. Available: .*de"):
        list(read_documents([f"hf:{tmp_path}?config=fr"], bad=BadInput(skip=True)))


@needs_hub
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("?column=plot", "no column plot among number, story"),
        (":test", "Bad split: test. Available splits"),
    ],
)
def test_what_a_data_set_lacks_is_named(options: str, message: str, tales: Path):
    with pytest.raises(InputError, match=message):
        list(read_documents([f"hf:{tales}{options}"], bad=BadInput(skip=True)))


@needs_hub
def test_a_set_without_a_text_column_lists_its_columns(tmp_path: Path):
    write_jsonl(tmp_path / "train.jsonl", [{"question": "a?", "answer": "b"}])
    with pytest.raises(InputError, match=r"no text column among question, answer; name one"):
        list(read_documents([f"hf:{tmp_path}"], bad=BadInput()))
    assert list(read_documents([f"hf:{tmp_path}?column=answer"], bad=BadInput())) == ["b"]


@needs_hub
def test_a_bad_row_stops_or_is_counted(tmp_path: Path):
    write_jsonl(tmp_path / "train.jsonl", [{"text": "a"}, {"text": None}, {"text": "b"}])
    with pytest.raises(InputError, match=r'train:2: "text" is missing'):
        list(read_documents([f"hf:{tmp_path}"], bad=BadInput()))
    bad = BadInput(skip=True)
    assert list(read_documents([f"hf:{tmp_path}"], bad=bad)) == ["a", "b"]
    assert bad.count == 1


@needs_hub
def test_corrupt_files_stop_or_are_counted(tales: Path):
    first, second = sorted((tales / "data").glob("train-*"))
    second.write_bytes(second.read_bytes()[:-50])
    with pytest.raises(InputError, match="corrupt data"):
        list(read_documents([f"hf:{tales}"], bad=BadInput()))
    bad = BadInput(skip=True)
    list(read_documents([f"hf:{tales}"], bad=bad))
    assert bad.count == 1
    first.write_bytes(b"")
    second.write_bytes(b"")
    with pytest.raises(InputError, match="hf:"):
        list(read_documents([f"hf:{tales}"], bad=BadInput()))


@needs_hub
def test_conversations_come_in_every_shape(tmp_path: Path):
    asked = [Message("user", "hi"), Message("assistant", "hello")]
    listed = [{"role": m.role, "content": m.content} for m in asked]
    shapes = {
        "messages": {"messages": listed},
        "pairs": {"prompt": "hi", "response": "hello"},
        "alpaca": {"instruction": "hi", "input": "", "output": "hello", "text": "hi hello"},
        "dolly": {"instruction": "hi", "context": "", "response": "hello", "category": "talk"},
    }
    for name, row in shapes.items():
        write_jsonl(tmp_path / name / "train.jsonl", [row])
        assert list(read_conversations([f"hf:{tmp_path / name}"], bad=BadInput())) == [asked]
    write_jsonl(tmp_path / "other" / "train.jsonl", [{"turns": listed}])
    other = f"hf:{tmp_path / 'other'}?column=turns"
    assert list(read_conversations([other], bad=BadInput())) == [asked]


@needs_hub
def test_the_context_of_a_question_follows_it(tmp_path: Path):
    row = {"instruction": "How old?", "context": "Ann is 7.", "response": "7."}
    write_jsonl(tmp_path / "train.jsonl", [row, {**row, "response": ""}])
    bad = BadInput(skip=True)
    ((asked, _),) = read_conversations([f"hf:{tmp_path}"], bad=bad)
    assert asked.content == "How old?\nAnn is 7."
    assert bad.examples == [f"hf:{tmp_path}:train:2: the assistant turn's content is empty"]


@needs_hub
def test_digests_of_a_folder_are_of_its_files(tales: Path):
    digests = source_digest([f"hf:{tales}"])
    assert len(digests) == 3 and all(len(digest) == 64 for digest in digests.values())


@needs_hub
@pytest.mark.parametrize("skip", [False, True])
def test_a_broken_connection_is_never_taken_for_the_end(skip: bool, monkeypatch):
    class Stream:
        column_names = ("text",)

        def select_columns(self, columns: list[str]):
            yield {"text": "a"}
            raise ConnectionError("connection reset")

    monkeypatch.setattr(hub, "_located", lambda *names: (names[0], COMMIT))
    monkeypatch.setattr(hub, "_opened", lambda *names: Stream())
    with pytest.raises(RunError, match=r"broke off after row 1 \(connection reset\); try again"):
        list(read_documents(["hf:me/tales"], bad=BadInput(skip=skip)))


# ---------------------------------------------------------------- a hub on this machine

READ = """
import json, sys
from tinymemorylm.corpus import BadInput, read_documents, source_digest
from tinymemorylm.errors import InputError, RunError
try:
    texts = list(read_documents(sys.argv[1:], bad=BadInput()))
    print(json.dumps([texts, source_digest(sys.argv[1:])]))
except InputError as error:
    print(json.dumps(str(error)))
"""


def read_from(endpoint: str, home: Path, source: str, **more: str):
    """What another process reads: the endpoint is fixed when the libraries are imported."""
    environment = {**os.environ, "HF_ENDPOINT": endpoint, "HF_HOME": str(home), **more}
    done = subprocess.run(
        [sys.executable, "-c", READ, source], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@needs_hub
def test_a_hub_is_streamed_from_and_its_commit_recorded(tales: Path, tmp_path: Path):
    with fake_hub({"me/tales": tales}) as (endpoint, _):
        texts, digests = read_from(endpoint, tmp_path / "home", "hf:me/tales?bytes=12")
        assert texts == ["tale 0.0", "tale 0.1"]
        assert digests == {"hf:me/tales:train?bytes=12": COMMIT}
        assert not list((tmp_path / "home").rglob("*.parquet"))
        said = read_from(endpoint, tmp_path / "home", "hf:me/nothing")
        assert said.startswith("hf:me/nothing: no such data set on the hub")


@needs_hub
def test_without_a_network_one_line_says_what_to_do(tmp_path: Path):
    for more in ({}, {"HF_HUB_OFFLINE": "1"}):
        said = read_from("http://127.0.0.1:9", tmp_path, "tinystories", **more)
        assert said.startswith("hf:roneneldan/TinyStories: the hub can't be reached (")
        assert "`hf download roneneldan/TinyStories --repo-type dataset --local-dir DIR`" in said
        assert "\n" not in said


@needs_hub
def test_without_a_network_a_downloaded_copy_is_read(tales: Path, tmp_path: Path):
    copy = tmp_path / "home" / "hub" / "datasets--me--tales"
    (copy / "refs").mkdir(parents=True)
    (copy / "refs" / "main").write_text(COMMIT)
    (copy / "snapshots").mkdir()
    tales.rename(copy / "snapshots" / COMMIT)
    source = "hf:me/tales:validation"
    texts, digests = read_from("http://127.0.0.1:9", tmp_path / "home", source, HF_HUB_OFFLINE="1")
    assert texts == ["a", "b"]
    assert digests == {source: COMMIT}
