"""Bits per byte against seconds of training, both sides of a speedrun.

In: the content of a speedrun's `results.json`. Out: a picture: a line for each repeat.
"""

from pathlib import Path
from typing import Any

from tinymemorylm.files import atomic_file
from tinymemorylm.report.curves import INK, SMOOTH, VALIDATION

STYLES = ("-", "--", ":", "-.")


def draw_race(found: dict[str, Any], path: Path) -> None:
    """Every measurement of every repeat; line styles tell races of different length apart."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.add_subplot()
    lengths = list(dict.fromkeys(row["minutes"] for row in found["rows"]))
    named = set()
    for row in found["rows"]:
        name = row["side"] + ("" if row["minutes"] is None else f", {row['minutes']:g} minutes")
        axes.plot(
            [point["seconds"] for point in row["points"]],
            [point["bits_per_byte"] for point in row["points"]],
            STYLES[lengths.index(row["minutes"]) % len(STYLES)],
            color=SMOOTH if row["side"] == "ours" else VALIDATION,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label="_" if name in named else name,
        )
        named.add(name)
    if found["target"]:
        axes.axhline(found["target"], color=INK, linewidth=0.8, linestyle="--", label="target")
    axes.set_xlim(left=0)
    axes.set_xlabel("seconds of training, tokenizer included")
    axes.set_ylabel("bits per byte of the held-out text")
    track = found["settings"]["track"]
    axes.set_title(f"Speedrun, {track}", loc="left", color=INK, fontsize=11)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="#eeeeee")
    axes.legend(frameon=False)
    FigureCanvasAgg(figure)
    with atomic_file(path) as file:
        figure.savefig(file, format="png", dpi=150)
