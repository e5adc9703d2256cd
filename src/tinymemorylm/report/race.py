"""Bits per byte against seconds of training, both sides of a speedrun.

In: the content of a speedrun's `results.json`. Out: a picture: a line for each repeat.
"""

from pathlib import Path
from typing import Any

from tinymemorylm.report.picture import INK, SMOOTH, VALIDATION, new_axes, save_picture

STYLES = ("-", "--", ":", "-.")


def draw_race(found: dict[str, Any], path: Path) -> None:
    """Every measurement of every repeat; line styles tell races of different length apart."""
    axes = new_axes()
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
    axes.grid(axis="y", color="#eeeeee")
    save_picture(axes, f"Speedrun, {track}", path)
