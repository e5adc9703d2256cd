from pathlib import Path

import pytest
import torch

from tinymemorylm.errors import InputError
from tinymemorylm.training import checkpoint
from tinymemorylm.training.checkpoint import (
    KEPT,
    best_checkpoints,
    checkpoint_folders,
    load_checkpoint,
    save_checkpoint,
    step_of,
)


def test_the_newest_checkpoints_are_kept(tmp_path: Path):
    for step in range(0, 10, 2):
        save_checkpoint(tmp_path, step, {"step": step, "w": torch.ones(3)})
    names = [folder.name for folder in checkpoint_folders(tmp_path)]
    assert names == ["step-000004", "step-000006", "step-000008"] and len(names) == KEPT
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0]["step"] == 8 and found[1] == []


def test_the_best_of_each_phase_is_kept_where_it_was_made(tmp_path: Path):
    figures = [3.0, 2.0, 1.0, 1.5, None, 1.0, 1.2, 0.5, 0.7, 0.6, 0.8]
    for step, figure in enumerate(figures):
        phase = "pretrain" if step < 7 else "sft"
        save_checkpoint(tmp_path, step, {}, phase=phase, val_bits_per_byte=figure)
    steps = [step_of(folder) for folder in checkpoint_folders(tmp_path)]
    assert steps == [2, 7, 8, 9, 10]
    best = {phase: step_of(folder) for phase, folder in best_checkpoints(tmp_path).items()}
    assert best == {"pretrain": 2, "sft": 7}


@pytest.mark.parametrize("file", ["state.pt", "manifest.json"])
def test_any_flipped_bit_and_any_cut_is_seen(file: str, tmp_path: Path):
    save_checkpoint(tmp_path, 1, {"step": 1})
    folder = save_checkpoint(tmp_path, 2, {"step": 2, "w": torch.ones(3)})
    whole = (folder / file).read_bytes()
    for place in range(0, len(whole), 37):
        flipped = bytearray(whole)
        flipped[place] ^= 1 << place % 8
        for content in (flipped, whole[:place]):
            (folder / file).write_bytes(content)
            found = load_checkpoint(tmp_path)
            assert found is not None and found[0]["step"] == 1 and found[1] == [folder]
    (folder / file).unlink()
    found = load_checkpoint(tmp_path)
    assert found is not None and found[1] == [folder]


def test_damaged_checkpoints_ahead_never_push_out_good_ones(tmp_path: Path):
    for step in (1, 5, 6, 7):
        save_checkpoint(tmp_path, step, {"step": step})
    for folder in checkpoint_folders(tmp_path)[-3:]:
        (folder / "state.pt").write_bytes(b"")
    save_checkpoint(tmp_path, 2, {"step": 2})
    assert [step_of(f) for f in checkpoint_folders(tmp_path)][-1] == 2
    found = load_checkpoint(tmp_path)
    assert found is not None and found[0]["step"] == 2


def test_a_checkpoint_of_another_version_is_not_passed_over(tmp_path: Path, monkeypatch):
    save_checkpoint(tmp_path, 1, {})
    monkeypatch.setattr(checkpoint, "FORMAT", checkpoint.FORMAT + 1)
    with pytest.raises(InputError, match="is of format 1, not 2"):
        load_checkpoint(tmp_path)


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
