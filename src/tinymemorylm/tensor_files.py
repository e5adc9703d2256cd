"""`.pt` files of tensors and plain containers, read as if a stranger had written them.

In: a path. Out: tensors in dictionaries. Nothing of what a file says about itself is believed:
no code of it runs, and no more memory is taken than its own bytes.
"""

import copy
import io
import pickletools
import re
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from tinymemorylm.errors import InputError, shown

KNOWN = re.compile(r"collections OrderedDict|torch\._utils _rebuild_tensor_v2|torch \w+Storage")
"""All that a file of tensors names; torch's own reader would call a few things more."""


def tensor_bytes(content: dict[str, Any]) -> bytes:
    """What a .pt of `content` holds. Made in memory: a disk that is full then fails plainly."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def load_tensors(path: Path) -> dict[str, Any]:
    """Read a .pt of tensors and plain containers, running no code of its own.

    Raises InputError if the file is missing, damaged, or holds anything else.
    """
    if not path.exists():
        raise InputError(f"no file {path}")
    try:
        _check_archive(path)
        # Mapped, a storage is a slice of the file, however large it claims to be.
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        tensors = {id(tensor): tensor for tensor in _tensors(content)}
        if sum(t.numel() * t.element_size() for t in tensors.values()) > path.stat().st_size:
            raise ValueError("its tensors claim to be larger than the file")
        if not isinstance(content, dict):
            raise ValueError("it holds no dictionary")
        return copy.deepcopy(content, {key: t.clone() for key, t in tensors.items()})
    except Exception as error:  # torch raises many kinds for a damaged or hostile file
        reason = shown(str(error).strip().partition("\n")[0]) or type(error).__name__
        raise InputError(f"{path} is damaged or not a tensor file: {reason}") from None


def _check_archive(path: Path) -> None:
    """Raises ValueError for what torch.save doesn't write: packed, doubled or foreign entries."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(e.compress_type != zipfile.ZIP_STORED for e in entries):
            raise ValueError("its entries are compressed")
        if len({e.filename.lower() for e in entries}) < len(entries):
            raise ValueError("it holds an entry twice")
        if sum(e.file_size for e in entries) > path.stat().st_size:
            raise ValueError("its entries claim to be larger than the file")
        (pickled,) = (e for e in entries if e.filename.partition("/")[2] == "data.pkl")
        for operation, argument, _ in pickletools.genops(archive.read(pickled)):
            foreign = operation.name == "GLOBAL" and not KNOWN.fullmatch(str(argument))
            if foreign or operation.name in ("STACK_GLOBAL", "INST"):
                raise ValueError(f"it names {argument}, which is no tensor")


def _tensors(content: Any) -> Iterator[Tensor]:
    """Every tensor within nested containers, each container looked at once."""
    waiting, seen = [content], set[int]()
    while waiting:
        value = waiting.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict):
            waiting += [*value.keys(), *value.values()]
        elif isinstance(value, list | tuple | set):
            waiting += value


def misfit(state: Any, wanted: Mapping[str, Tensor]) -> str | None:
    """Why a file's tensors are not those of a model's state, or None."""
    if not isinstance(state, dict):
        return "it holds no weights"
    if missing := wanted.keys() - state.keys():
        return f"{min(missing)} is missing"
    if unknown := state.keys() - wanted.keys():
        return f"{shown(str(min(unknown, key=str)))} is not of this architecture"
    for name, tensor in wanted.items():
        value = state[name]
        if not isinstance(value, Tensor) or not value.is_floating_point():
            return f"{name} is no tensor of real numbers"
        if value.shape != tensor.shape:
            return f"{name} is of shape {shown(str([*value.shape]))}, not {[*tensor.shape]}"
    return None
