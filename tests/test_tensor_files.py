"""What a stranger may put into a .pt: each is one clear line, runs nothing, and takes no memory."""

import os
import pickle
import resource
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymemorylm.errors import InputError
from tinymemorylm.tensor_files import load_tensors, misfit, tensor_bytes

CONTENT = {"model": OrderedDict(w=torch.arange(6.0).view(2, 3)), "n": [1, (2.5, "x", None)]}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    file = tmp_path / "model.pt"
    file.write_bytes(tensor_bytes(CONTENT))
    return file


def rewritten(path: Path, change: Callable[[str, bytes], bytes], **how: int) -> None:
    """The archive again, with entries changed by name."""
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", **how) as archive:  # type: ignore
        for name, content in entries.items():
            archive.writestr(name, change(name.partition("/")[2], content))


def pickled(content: bytes) -> Callable[[str, bytes], bytes]:
    return lambda name, old: content if name == "data.pkl" else old


def refused(path: Path, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        load_tensors(path)
    assert "\n" not in str(error.value) and len(str(error.value)) < len(str(path)) + 140


def test_tensors_and_plain_values_come_back_as_they_were(path: Path):
    found = load_tensors(path)
    assert torch.equal(found["model"]["w"], CONTENT["model"]["w"])
    assert found["n"] == CONTENT["n"]
    path.unlink()
    assert found["model"]["w"].sum() == 15  # not of the file any more


class Hostile:
    def __reduce__(self):
        return (os.mkdir, ("owned",))


@pytest.mark.parametrize("way", ["bare", "saved", "inside"])
def test_a_hostile_pickle_is_refused_and_does_nothing(
    way: str, path: Path, tmp_path: Path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    if way == "bare":
        path.write_bytes(pickle.dumps(Hostile()))
    elif way == "saved":
        torch.save({"model": Hostile()}, path)
    else:
        rewritten(path, pickled(pickle.dumps({"model": Hostile()}, protocol=4)))
    refused(path, "damaged or not a tensor file")
    assert not (tmp_path / "owned").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: bytearray(1 << 45), "bytearray"),
        (lambda t: t.to_sparse(), "sparse"),
        (lambda t: t.to("meta"), "no tensor"),
        (lambda t: torch.nn.Parameter(t), "no tensor"),
        (lambda t: t[:1, :1].expand(1 << 20, 1 << 20), "larger than the file"),
    ],
    ids=["bytearray", "sparse", "meta", "parameter", "expanded"],
)
def test_what_would_grow_is_refused_before_it_grows(change: Callable, message: str, path: Path):
    if message == "bytearray":
        claim = b"\x80\x02cbuiltins\nbytearray\n\x8a\x06" + (1 << 45).to_bytes(6, "little")
        rewritten(path, pickled(claim + b"\x85R."))
    else:
        torch.save({"model": change(torch.ones(2, 2))}, path)
    refused(path, message)


@pytest.mark.parametrize("shape", [(6,), (2, 3)])
def test_a_size_a_header_claims_is_not_allocated(shape: tuple[int, ...], path: Path):
    """A storage, and a tensor of it, said to hold 2,000,000,000 numbers in a kilobyte of file."""
    six, many = b"K\x06", b"J" + struct.pack("<i", 2_000_000_000)
    torch.save({"w": torch.ones(shape)}, path)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    rewritten(path, lambda name, old: old.replace(six, many) if name == "data.pkl" else old)
    if shape == (6,):
        refused(path, "damaged")
    else:  # only the storage lies: what the tensor takes of it is there
        assert torch.equal(load_tensors(path)["w"], torch.ones(shape))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kilobytes


def test_entries_packed_doubled_or_larger_than_the_file_are_refused(path: Path):
    whole = path.read_bytes()
    rewritten(path, lambda _, old: old, compression=zipfile.ZIP_DEFLATED)
    refused(path, "compressed")
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr(archive.namelist()[0].upper(), b"")
    refused(path, "twice")
    at = whole.rindex(b"PK\x01\x02")
    claim = struct.pack("<II", 1 << 30, 1 << 30)  # packed and unpacked size of the last entry
    path.write_bytes(whole[: at + 20] + claim + whole[at + 28 :])
    refused(path, "damaged")


def test_a_file_of_no_dictionary_or_that_holds_itself_is_refused(path: Path):
    torch.save([torch.ones(2)], path)
    refused(path, "no dictionary")
    rewritten(path, pickled(b"\x80\x02}X\x01\x00\x00\x00a" + b"]" * 5000 + b"a" * 4999 + b"s."))
    refused(path, "recursion")
    refused(path.parent, "damaged")
    refused(path.with_name("none.pt"), "no file")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        (None, "no weights"),
        ({"a": torch.ones(2)}, "b is missing"),
        ({"a": torch.ones(2), "b": torch.ones(1), "c" * 500: 0}, "ccc.* is not of this arch"),
        ({"a": torch.ones(3), "b": torch.ones(1)}, r"a is of shape \[3\], not \[2\]"),
        ({"a": torch.ones(2), "b": 1.0}, "b is no tensor"),
        ({"a": torch.ones(2), "b": torch.ones(1, dtype=torch.int64)}, "b is no tensor"),
    ],
)
def test_a_state_that_does_not_fit_says_where(state: object, message: str):
    import re

    reason = misfit(state, {"a": torch.zeros(2), "b": torch.zeros(1)})
    assert reason is not None and re.search(message, reason) and len(reason) < 200


@settings(max_examples=150, deadline=None)
@given(
    flips=st.lists(st.tuples(st.floats(0, 0.9999), st.integers(0, 255)), max_size=4),
    end=st.one_of(st.none(), st.floats(0, 1)),
)
def test_no_damage_makes_anything_but_a_clear_error(
    flips: list[tuple[float, int]], end: float | None, tmp_path_factory
):
    content = bytearray(tensor_bytes(CONTENT))
    for place, value in flips:
        content[int(place * len(content))] = value
    if end is not None:
        del content[int(end * len(content)) :]
    path = tmp_path_factory.getbasetemp() / "damaged.pt"
    path.write_bytes(content)
    try:
        assert isinstance(load_tensors(path), dict)
    except InputError as error:
        assert "\n" not in str(error)
