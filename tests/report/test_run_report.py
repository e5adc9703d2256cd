import json
from pathlib import Path

import pytest

from tinymemorylm.report.curves import smoothed
from tinymemorylm.report.run_report import read_lines, report_run


def test_smoothing_keeps_a_constant_and_follows_a_step():
    assert smoothed([2.0] * 5, 3) == pytest.approx([2.0] * 5)
    out = smoothed([1.0] * 50 + [0.0] * 50, 5)
    assert out[49] == pytest.approx(1) and 0 < out[52] < 0.6 and out[99] < 0.01


def test_the_card_holds_the_runs_own_figures(finished_run: Path):
    card = (finished_run / "README.md").read_text()
    metrics = read_lines(finished_run / "metrics.jsonl")
    config = json.loads((finished_run / "config.json").read_text())
    assert f"{config['parameters']['total']:,} parameters" in card
    for phase in ("pretrain", "sft"):
        last = [m for m in metrics if m["phase"] == phase][-1]
        assert f"{last['val_bits_per_byte']:.4f}" in card
    assert "![Loss curve](loss_curve.png)" in card
    assert (finished_run / "loss_curve.png").read_bytes().startswith(b"\x89PNG")


def test_nothing_is_drawn_where_nothing_was_trained(tmp_path: Path):
    report_run(tmp_path)
    assert not list(tmp_path.iterdir())
