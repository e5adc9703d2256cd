"""The loss curve of a run, both phases on one axis.

In: the lines of `metrics.jsonl`. Out: `loss_curve.png`: training, smoothed, validation, with
the phases marked.
"""

from itertools import groupby
from pathlib import Path
from typing import Any

from tinymemorylm.report.picture import INK, PALE, SMOOTH, VALIDATION, new_axes, save_picture

PHASES = {"pretrain": "pretraining", "sft": "SFT"}


def smoothed(values: list[float], window: int) -> list[float]:
    """Exponential mean over about `window` steps, without the bias of its start."""
    decay, mean, weight, out = 1 - 1 / max(1, window), 0.0, 0.0, []
    for value in values:
        mean = decay * mean + (1 - decay) * value if decay else value
        weight = decay * weight + (1 - decay) if decay else 1.0
        out.append(mean / weight)
    return out


def draw_loss_curve(lines: list[dict[str, Any]], title: str, path: Path) -> None:
    """Bits per byte against steps. Nothing is drawn for a run without metrics."""
    if not lines:
        return
    axes = new_axes()
    for number, (phase, of_phase) in enumerate(groupby(lines, key=_phase)):
        rows = list(of_phase)
        steps = [row["step"] for row in rows]
        train = [row["bits_per_byte"] for row in rows]
        first = number == 0
        axes.plot(steps, train, color=PALE, linewidth=0.8, label="training" if first else "_")
        axes.plot(
            steps,
            smoothed(train, max(5, len(train) // 40)),
            color=SMOOTH,
            linewidth=1.8,
            label="training, smoothed" if first else "_",
        )
        held_out = [row for row in rows if "val_bits_per_byte" in row]
        axes.plot(
            [row["step"] for row in held_out],
            [row["val_bits_per_byte"] for row in held_out],
            color=VALIDATION,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            label="validation" if first else "_",
        )
        if not first:
            axes.axvline(steps[0] - 0.5, color=INK, linewidth=0.8, linestyle="--")
        axes.annotate(
            PHASES.get(phase, phase),
            ((steps[0] + steps[-1]) / 2, 0.97),
            xycoords=("data", "axes fraction"),
            ha="center",
            va="top",
            color=INK,
        )
    # The first steps fall from far above: let them run out of the picture.
    settled = [line["bits_per_byte"] for line in lines[min(len(lines) // 50, 50) :]]
    axes.set_ylim(0, 1.15 * max(settled))
    axes.set_xlabel("step")
    axes.set_ylabel("bits per byte (SFT: of the assistant's text)")
    axes.grid(axis="y", color="#eeeeee")
    save_picture(axes, title, path, loc="lower left")


def _phase(line: dict[str, Any]) -> str:
    return line["phase"]
