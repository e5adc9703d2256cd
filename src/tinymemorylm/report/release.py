"""A release: what others need of a finished run, small enough to hand on.

In: a run's model directory. Out: another one without streams and checkpoints, its metrics thinned.
"""

import json
from pathlib import Path
from typing import Any

from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, write_text
from tinymemorylm.report.run_report import read_lines

FILES = (
    "config.json",
    "tokenizer.json",
    "chat_template.jinja",
    "pretrain.pt",
    "model.pt",
    "samples.jsonl",
    "loss_curve.png",
    "recipe.json",
    "evaluation.json",
    "README.md",
)
LINES_A_PHASE = 1000
"""About how many lines of metrics are kept of each phase, besides validations."""
LAST_LINES = 20


def release(run: Path, out: Path) -> None:
    """Copy a finished run to `out`. Raises InputError if one of its files is missing."""
    for name in FILES:
        if not (run / name).exists():
            raise InputError(f"{run} has no {name}: finish the run and `tmlm eval --append-card`")
    for name in FILES:
        with atomic_file(out / name) as file:
            file.write((run / name).read_bytes())
    lines = thinned(read_lines(run / "metrics.jsonl"))
    write_text(out / "metrics.jsonl", "".join(json.dumps(line) + "\n" for line in lines))


def thinned(metrics: list[dict[str, Any]], most: int = LINES_A_PHASE) -> list[dict[str, Any]]:
    """Every n-th line of each phase, and all validations; its first and last ones stay."""
    kept = []
    for name in dict.fromkeys(line["phase"] for line in metrics):
        lines = [line for line in metrics if line["phase"] == name]
        every = -(-len(lines) // most)
        kept += [
            line
            for i, line in enumerate(lines)
            if i % every == 0 or i >= len(lines) - LAST_LINES or "val_bits_per_byte" in line
        ]
    return kept
