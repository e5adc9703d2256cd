"""Checkpoints: all a run needs to go on, in `checkpoints/step-NNNNNN/state.pt`.

In: a dictionary of tensors and plain values. Out: a folder that exists whole or not at all;
the newest readable one is where a run resumes.
"""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import torch

from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, sync_folder
from tinymemorylm.model_directory import load_tensors

KEPT = 3
"""Newest checkpoints kept."""


def checkpoint_folders(run: Path) -> list[Path]:
    """The run's complete checkpoints, oldest first."""
    found = (run / "checkpoints").glob("step-*")
    return sorted(folder for folder in found if re.fullmatch(r"step-\d{6,}", folder.name))


def save_checkpoint(run: Path, step: int, state: dict[str, Any]) -> Path:
    """Write a checkpoint under a temporary name, rename it, drop all but the newest."""
    folder = run / "checkpoints" / f"step-{step:06d}"
    temporary = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    try:
        with atomic_file(temporary / "state.pt") as file:
            torch.save(state, file)
        if folder.exists():
            shutil.rmtree(folder)
        temporary.rename(folder)
        sync_folder(folder.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    for old in checkpoint_folders(run)[:-KEPT]:
        shutil.rmtree(old)
    return folder


def load_checkpoint(run: Path) -> tuple[dict[str, Any], list[Path]] | None:
    """The newest readable checkpoint and the damaged ones passed over; None if there is none."""
    damaged = []
    for folder in reversed(checkpoint_folders(run)):
        try:
            return load_tensors(folder / "state.pt"), damaged
        except InputError:
            damaged.append(folder)
    return None
