from pathlib import Path

import torch

from tinymemorylm.training.checkpoint import (
    KEPT,
    checkpoint_folders,
    load_checkpoint,
    save_checkpoint,
)


def test_the_newest_checkpoints_are_kept(tmp_path: Path):
    for step in range(0, 10, 2):
        save_checkpoint(tmp_path, step, {"step": step, "w": torch.ones(3)})
    names = [folder.name for folder in checkpoint_folders(tmp_path)]
    assert names == ["step-000004", "step-000006", "step-000008"] and len(names) == KEPT
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0]["step"] == 8 and found[1] == []


def test_half_written_checkpoints_are_not_seen(tmp_path: Path):
    save_checkpoint(tmp_path, 3, {"step": 3})
    half = tmp_path / "checkpoints" / ".step-000004.1.tmp"
    half.mkdir()
    (half / "state.pt").write_bytes(b"half")
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0]["step"] == 3


def test_a_run_without_checkpoints_has_none(tmp_path: Path):
    assert load_checkpoint(tmp_path) is None


def test_saving_a_step_again_replaces_it(tmp_path: Path):
    save_checkpoint(tmp_path, 1, {"value": 1})
    save_checkpoint(tmp_path, 1, {"value": 2})
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0]["value"] == 2
    assert [p.name for p in (tmp_path / "checkpoints").iterdir()] == ["step-000001"]
