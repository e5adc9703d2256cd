from pathlib import Path

from tinymemorylm.report.recall_curve import draw_recall_curve


def row(weights: str, distance: int, share: float) -> dict:
    ends = {"low": max(0, share - 0.1), "high": min(1, share + 0.1)}
    figures = {f"{key}_{end}": at for key in ("accuracy", "exact") for end, at in ends.items()}
    values = {"accuracy": share, "exact": share, "chance": 0.125}
    return {"weights": weights, "distance": distance, **values, **figures}


def test_one_picture_holds_both_kinds_of_weights_at_unlike_distances(tmp_path: Path):
    rows = [row("model", 0, 1.0), row("model", 64, 0.5), row("pretrain", 0, 0.1)]
    draw_recall_curve(rows, tmp_path / "both.png")
    draw_recall_curve(rows[:2], tmp_path / "one.png")
    both, one = ((tmp_path / name).read_bytes() for name in ("both.png", "one.png"))
    assert both.startswith(b"\x89PNG") and both != one
