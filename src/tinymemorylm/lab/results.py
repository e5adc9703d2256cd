"""What an ablation found: a row for each arm and seed, and arms compared over paired seeds.

In: finished runs. Out: the content of `results.json`, and its table as Markdown.
"""

import math
import os
import platform
from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import torch

from tinymemorylm import __version__
from tinymemorylm.lab.run import LabRun, failure, scores
from tinymemorylm.model_directory import read_config
from tinymemorylm.report.run_report import read_lines


def hardware(jobs: int, threads: int | None, device: str | None) -> dict[str, Any]:
    """The machine and how it is shared out; threads None: all cores over the jobs."""
    cores = os.cpu_count() or 1
    return {
        "cpu": _cpu_name(),
        "cores": cores,
        "threads": threads or max(1, cores // jobs),
        "jobs": jobs,
        "device": device or "best",
        "torch": torch.__version__,
        "version": __version__,
    }


def _cpu_name() -> str:
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def results(
    name: str, question: str, arms: Sequence[str], runs: Sequence[LabRun], used: dict[str, Any]
) -> dict[str, Any]:
    """All that is known so far; unfinished runs are left out, failed ones listed."""
    rows, failures = [], []
    for run in runs:
        for measure in run.measures:
            if found := scores(run, measure.arm):
                rows.append(_row(run, measure.arm, found))
            elif why := failure(run):
                failures.append({"arm": measure.arm, "seed": run.recipe.seed, "error": why})
    _at_equal_cost(rows)
    data = {k: v for run in runs for k, v in _data(run).items()}
    return {
        "ablation": name,
        "question": question,
        "hardware": used,
        "data": data,
        "eval_texts": list(runs[0].eval_texts),
        "arms": [_summary(arm, arms[0], rows) for arm in arms],
        "rows": rows,
        "failures": failures,
    }


def _data(run: LabRun) -> dict[str, str]:
    config = run.folder / "config.json"
    return read_config(run.folder)["provenance"]["data"]["sources"] if config.exists() else {}


def _row(run: LabRun, arm: str, found: dict[str, Any]) -> dict[str, Any]:
    config = read_config(run.folder)
    metrics = read_lines(run.folder / "metrics.jsonl")
    n_bytes = sum(text["bytes"] for text in found["texts"])
    tokens = sum(text["tokens"] for text in found["texts"])
    nats = sum(text["nats"] for text in found["texts"])
    return {
        "arm": arm,
        "seed": run.recipe.seed,
        "run": f"{run.folder.parent.name}/{run.folder.name}",
        "parameters": config["parameters"]["total"],
        "inference_parameters": config["parameters"]["inference"],
        "tokens": metrics[-1]["tokens_seen"],
        "seconds": metrics[-1]["seconds"],
        "bits_per_byte": round(nats / math.log(2) / max(1, n_bytes), 6),
        "bytes_per_token": round(n_bytes / max(1, tokens), 4),
        "adjusted": found["adjusted"],
        "packed": config["provenance"]["data"].get("pretrain"),
        "texts": found["texts"],
        "validation": [
            [line["tokens_seen"], line["seconds"], line["val_bits_per_byte"]]
            for line in metrics
            if line["phase"] == "pretrain" and "val_bits_per_byte" in line
        ],
    }


def _at_equal_cost(rows: list[dict[str, Any]]) -> None:
    """Validation of each run at the tokens, and at the seconds, that the cheapest of its seed took.

    Between validations the value is drawn straight; a run cut short so has not had the end of its
    learning-rate schedule.
    """
    for row in rows:
        ends = [r["validation"][-1] for r in rows if r["seed"] == row["seed"] and r["validation"]]
        for column, name in ((0, "tokens"), (1, "seconds")):
            points = [(point[column], point[2]) for point in row["validation"]]
            least = min((end[column] for end in ends), default=0)
            row[f"validation_at_equal_{name}"] = value_at(points, least)


def value_at(points: Sequence[tuple[float, float]], x: float) -> float | None:
    """The value at x on the line through (x, value) points: beyond them the last, before None."""
    place = bisect_left([point[0] for point in points], x)
    if place == len(points):
        return points[-1][1] if points else None
    (right, value) = points[place]
    if right == x:
        return value
    if place == 0:
        return None
    left, before = points[place - 1]
    return round(before + (value - before) * (x - left) / (right - left), 6)


def _summary(arm: str, first: str, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Means over an arm's seeds, and paired differences to the first arm over shared seeds."""
    own = {row["seed"]: row for row in rows if row["arm"] == arm}
    against = {row["seed"]: row for row in rows if row["arm"] == first}
    shared = sorted(own.keys() & against.keys())
    paired = [own[seed]["bits_per_byte"] - against[seed]["bits_per_byte"] for seed in shared]
    spread = deviation(paired)

    def mean(field: str) -> float | None:
        values = [row[field] for row in own.values() if row[field] is not None]
        return round(fmean(values), 6) if values else None

    fields = ("tokens", "seconds", "bits_per_byte", "bytes_per_token")
    at_equal = ("validation_at_equal_tokens", "validation_at_equal_seconds")
    return {
        "arm": arm,
        "seeds": sorted(own),
        "parameters": next((row["parameters"] for row in own.values()), None),
        **{field: mean(field) for field in (*fields, *at_equal)},
        "standard_deviation": deviation([row["bits_per_byte"] for row in own.values()]),
        "difference": round(fmean(paired), 6) if paired and arm != first else None,
        "standard_error": None
        if spread is None or arm == first
        else round(spread / math.sqrt(len(paired)), 6),
    }


def deviation(values: Sequence[float]) -> float | None:
    """The sample's standard deviation; None of fewer than two."""
    return round(stdev(values), 6) if len(values) > 1 else None


def table(found: dict[str, Any]) -> str:
    """The results as Markdown."""
    header = [
        "arm",
        "seeds",
        "parameters",
        "tokens",
        "seconds",
        "bytes per token",
        "bits per byte",
        "spread",
        f"difference to {found['arms'][0]['arm']}",
        "validation at equal tokens",
        "at equal seconds",
    ]
    lines = [header, ["---"] * len(header)]
    for arm in found["arms"]:
        difference = _shown(arm["difference"], "+.4f")
        if arm["standard_error"] is not None:
            difference += f" ± {arm['standard_error']:.4f}"
        lines.append(
            [
                arm["arm"],
                str(len(arm["seeds"])),
                _shown(arm["parameters"], ","),
                _shown(arm["tokens"], ",.0f"),
                _shown(arm["seconds"], ",.0f"),
                _shown(arm["bytes_per_token"], ".3f"),
                _shown(arm["bits_per_byte"], ".4f"),
                _shown(arm["standard_deviation"], ".4f"),
                difference,
                _shown(arm["validation_at_equal_tokens"], ".4f"),
                _shown(arm["validation_at_equal_seconds"], ".4f"),
            ]
        )
    used = found["hardware"]
    failed = [f"- {f['arm']}, seed {f['seed']}: {f['error']}" for f in found["failures"]]
    return "\n".join(
        [
            f"# {found['ablation']}",
            "",
            *([found["question"], ""] if found["question"] else []),
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            f"Bits per byte of {', '.join(found['eval_texts'])}, by the evaluation protocol. "
            "Spread: standard deviation over seeds. Difference: mean over pairs of equal seed ± "
            "its standard error. Validation: of held-out training data, at the tokens and at the "
            "seconds the cheapest arm took.",
            "",
            f"{used['cpu']}, {used['cores']} cores, {used['jobs']} runs at a time of "
            f"{used['threads']} threads, PyTorch {used['torch']}.",
            *(["", "Failed:", "", *failed] if failed else []),
            "",
        ]
    )


def _shown(value: float | None, form: str) -> str:
    return "" if value is None else format(value, form)
