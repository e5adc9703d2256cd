"""What is drawn from a run's files once it stops: the loss curve and the model card.

In: a run directory, finished or not. Out: `loss_curve.png` and `README.md` in it.
"""

import json
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from tinymemorylm.errors import InputError, RunError
from tinymemorylm.files import read_json, write_text
from tinymemorylm.model_directory import read_config
from tinymemorylm.report.curves import draw_loss_curve
from tinymemorylm.report.model_card import model_card


def read_lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file; none if it isn't there."""
    if not path.exists():
        return []
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def report_run(run: Path) -> None:
    """Draw the curve and write the card; does nothing where no training has begun."""
    metrics = read_lines(run / "metrics.jsonl")
    if not metrics:
        return
    config = read_config(run)
    recipe = read_json(run / "recipe.json")
    measured = run / "evaluation.json"
    evaluation = read_json(measured) if measured.exists() else None
    title = f"{recipe['name']}: {config['parameters']['total']:,} parameters"
    draw_loss_curve(metrics, title, run / "loss_curve.png")
    samples = read_lines(run / "samples.jsonl")
    pictures = {path.name for path in run.glob("*.png")}
    card = model_card(config, recipe, metrics, samples, evaluation, pictures)
    write_text(run / "README.md", card)


@contextmanager
def reported(run: Path) -> Iterator[None]:
    """Report the run when the block ends, also when it failed or was interrupted.

    Bad input leaves the directory as it was.
    """
    try:
        yield
    except RunError:
        with suppress(OSError, InputError):  # why the run stopped says more
            report_run(run)
        raise
    report_run(run)
