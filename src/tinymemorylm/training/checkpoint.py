"""Checkpoints: all a run needs to go on, in `checkpoints/step-NNNNNN/`.

In: a dictionary of tensors and plain values. Out: a folder that exists whole or not at all:
`state.pt`, and `manifest.json` with its SHA-256, written last; the newest whole one is where a
run resumes.
"""

import hashlib
import json
import re
import shutil
from pathlib import Path
from typing import Any

from tinymemorylm.errors import InputError
from tinymemorylm.files import (
    atomic_file,
    file_sha256,
    read_json,
    sync_folder,
    temporary_name,
    write_json,
)
from tinymemorylm.tensor_files import load_tensors, tensor_bytes

KEPT = 3
"""Newest checkpoints kept, beside the best of each phase."""
FORMAT = 1


def checkpoint_folders(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted((f for f in found if re.fullmatch(r"step-\d{6,}", f.name)), key=step_of)


def step_of(folder: Path) -> int:
    return int(folder.name.removeprefix("step-"))


def save_checkpoint(
    run: Path,
    step: int,
    state: dict[str, Any],
    *,
    phase: str = "",
    val_bits_per_byte: float | None = None,
) -> Path:
    """Write a checkpoint under a temporary name, rename it, drop those no longer kept.

    val_bits_per_byte: the validation figure at this very step, if there is one; the lowest of a
    phase marks its best checkpoint.
    """
    folder = run / "checkpoints" / f"step-{step:06d}"
    temporary = temporary_name(folder)
    if not folder.parent.exists():
        folder.parent.mkdir(parents=True)
        sync_folder(run)
    content = tensor_bytes(state)
    try:
        with atomic_file(temporary / "state.pt") as file:
            file.write(content)
        manifest = {
            "format": FORMAT,
            "step": step,
            "phase": phase,
            "val_bits_per_byte": val_bits_per_byte,
            "files": {"state.pt": hashlib.sha256(content).hexdigest()},
        }
        write_json(temporary / "manifest.json", {**manifest, "sha256": _digest(manifest)})
        if folder.exists():
            _remove(folder)
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _prune(run, step)
    return folder


def _digest(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _remove(folder: Path) -> None:
    """Out of sight first, so that no half-removed checkpoint is ever taken for one."""
    hidden = temporary_name(folder.with_name(f"{folder.name}.old"))
    folder.rename(hidden)
    shutil.rmtree(hidden)


def _prune(run: Path, step: int) -> None:
    """Keep the newest and the best. One later than `step` was damaged, or we'd be past it."""
    for folder in checkpoint_folders(run):
        if step_of(folder) > step:
            _remove(folder)
    folders = checkpoint_folders(run)
    best = best_checkpoints(run).values()
    for folder in folders[:-KEPT]:
        if folder not in best:
            _remove(folder)


def best_checkpoints(run: Path) -> dict[str, Path]:
    """By phase, the checkpoint of the lowest validation figure; the older one of equals."""
    best: dict[str, tuple[float, Path]] = {}
    for folder in checkpoint_folders(run):
        try:
            manifest = read_manifest(folder)
        except InputError:
            continue
        value, phase = manifest["val_bits_per_byte"], manifest["phase"]
        if value is not None and (phase not in best or value < best[phase][0]):
            best[phase] = value, folder
    return {phase: folder for phase, (_, folder) in best.items()}


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises InputError if it is missing or damaged."""
    values = read_json(folder / "manifest.json")
    if not isinstance(values, dict) or values.pop("sha256", None) != _digest(values):
        raise InputError(f"{folder / 'manifest.json'} is not what was written")
    return values


def read_checkpoint(folder: Path) -> dict[str, Any]:
    """The state in a checkpoint. Raises InputError unless it is whole, to the bit."""
    state = folder / "state.pt"
    if not state.is_file() or read_manifest(folder)["files"][state.name] != file_sha256(state):
        raise InputError(f"{state} is not what was written")
    return load_tensors(state)


def load_checkpoint(run: Path) -> tuple[dict[str, Any], list[Path]] | None:
    """The newest whole checkpoint and the damaged ones passed over; None if there are none.

    Raises InputError if all there are are damaged, or one of another version comes first.
    """
    damaged: list[Path] = []
    for folder in reversed(checkpoint_folders(run)):
        try:
            version = read_manifest(folder)["format"]
            if version == FORMAT:
                return read_checkpoint(folder), damaged
        except InputError:
            damaged.append(folder)
        else:
            raise InputError(f"{folder} is of format {version}, not {FORMAT}: of another version")
    if damaged:
        raise InputError(
            f"every checkpoint of {run} is damaged; delete {damaged[0].parent} to begin again"
        )
    return None
