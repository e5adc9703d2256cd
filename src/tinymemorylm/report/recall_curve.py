"""How recall falls with distance, drawn.

In: rows of the recall part of `tmlm eval`. Out: a picture: shares right against the tokens between
fact and question, with their intervals, and chance.
"""

from pathlib import Path
from typing import Any

from tinymemorylm.report.picture import INK, SMOOTH, VALIDATION, new_axes, save_picture

COLORS = {"model": SMOOTH, "pretrain": VALIDATION}
NAMES = {"model": "tuned", "pretrain": "pretrained"}
MEASURES = (("accuracy", "likeliest of 8", "-"), ("exact", "greedy answer", ":"))


def draw_recall_curve(rows: list[dict[str, Any]], path: Path) -> None:
    """Both measures of each kind of weights among the rows; distances stand at even steps."""
    axes = new_axes()
    distances = sorted({row["distance"] for row in rows})
    for weights in dict.fromkeys(row["weights"] for row in rows):
        own = sorted((r for r in rows if r["weights"] == weights), key=lambda r: r["distance"])
        places = [distances.index(row["distance"]) for row in own]
        for key, name, style in MEASURES:
            axes.plot(
                places,
                [row[key] for row in own],
                style,
                color=COLORS[weights],
                marker="o",
                markersize=3.5,
                label=f"{NAMES[weights]}, {name}",
            )
            axes.fill_between(
                places,
                [row[f"{key}_low"] for row in own],
                [row[f"{key}_high"] for row in own],
                color=COLORS[weights],
                alpha=0.12,
                linewidth=0,
            )
    axes.axhline(rows[0]["chance"], color=INK, linewidth=0.8, linestyle="--", label="chance of 8")
    axes.set_xticks(range(len(distances)), [f"{distance:,}" for distance in distances])
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("tokens between the fact and the question")
    axes.set_ylabel("share right, with 95% intervals")
    axes.grid(axis="y", color="#eeeeee")
    save_picture(axes, "Recall by distance", path)
