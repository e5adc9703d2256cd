"""The reliability diagram: how often the model is right against how sure it is.

In: rows of `evaluation.calibration`. Out: a picture, a line for each text.
"""

from pathlib import Path
from typing import Any

from tinymemorylm.report.picture import PALE, new_axes, save_picture


def draw_reliability(rows: list[dict[str, Any]], path: Path) -> None:
    """Accuracy of each bin against its mean confidence, points as large as their share of tokens.

    On the diagonal the model is as often right as it is sure.
    """
    axes = new_axes(5.5, 5.5)
    axes.plot([0, 1], [0, 1], color=PALE, linestyle="--", label="perfectly calibrated")
    for row in rows:
        bins = row["bins"]
        sure, right = ([b[key] for b in bins] for key in ("confidence", "accuracy"))
        error = row["expected_calibration_error"]
        (line,) = axes.plot(sure, right, linewidth=1.2, label=f"{row['path']} (error {error:.4f})")
        sizes = [10 + 400 * b["tokens"] / row["tokens"] for b in bins]
        axes.scatter(sure, right, sizes, color=line.get_color(), alpha=0.7)
    axes.set(xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes.set_xlabel("confidence: probability of the likeliest token")
    axes.set_ylabel("accuracy: share of tokens that are the likeliest")
    axes.grid(color="#eeeeee")
    save_picture(axes, "Reliability of the next token", path, loc="upper left")
