"""The main job on the embedded corpus: train, tune, measure, and show what came out.

In: an output directory. Out: a model directory with the card's five files, and on the
terminal figures, a story, answers, and what to try next.
"""

import dataclasses
import time
from pathlib import Path
from typing import Any

from tinymemorylm.batches import TokenStream
from tinymemorylm.config import load_recipe, shipped_recipe
from tinymemorylm.evaluation.bits_per_byte import score_documents
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.files import read_json, write_json
from tinymemorylm.model_directory import Weights, load_model, read_config
from tinymemorylm.packing import NOT_A_TARGET
from tinymemorylm.progress import log
from tinymemorylm.report.run_report import read_lines, report_run, reported
from tinymemorylm.training.beginning import is_finished
from tinymemorylm.training.phases import train


def quickstart(run: Path, seed: int, device: str | None) -> None:
    """Run recipe `quickstart` into `run`, or go on with it; a finished one is only shown."""
    recipe = dataclasses.replace(load_recipe(shipped_recipe("quickstart")), seed=seed)
    if is_finished(run, recipe):
        log(f"{run} is already trained; delete it to train again")
    else:
        with reported(run):
            train(recipe, run, resume=True, device=device)
    if not (run / "evaluation.json").exists():  # it may have been interrupted just here
        write_json(run / "evaluation.json", evaluate_held_out(run))
        report_run(run)
    show(run)


def evaluate_held_out(run: Path) -> dict[str, Any]:
    """Bits per byte of the held-out texts, with pretrained and tuned weights."""
    rows = []
    names: tuple[Weights, ...] = ("pretrain", "model")
    for weights in names:
        model, tokenizer = load_model(run, weights)
        stream = TokenStream(run / "shards" / "pretrain", "validation")
        texts = [
            tokenizer.decode((ids & ~NOT_A_TARGET).tolist(), skip_special=True)
            for ids in stream.documents(tokenizer.bos_id)
        ]
        began = time.perf_counter()
        score = score_documents(Scorer(model, tokenizer), texts)
        rows.append(
            {
                "path": "held-out stories",
                "weights": weights,
                "bits_per_byte": round(score.bits_per_byte, 5),
                "nats_per_token": round(score.nats / score.n_tokens, 5),
                "bytes_per_token": round(score.n_bytes / score.n_tokens, 4),
                "bytes": score.n_bytes,
                "tokens": score.n_tokens,
                "seconds": round(time.perf_counter() - began, 1),
            }
        )
    return {"texts": rows}


def show(run: Path) -> None:
    """Print the run's figures and last samples, and how to go on."""
    from rich.console import Console
    from rich.text import Text

    console = Console(highlight=False)
    config = read_config(run)
    evaluation = read_json(run / "evaluation.json")
    parameters, provenance = config["parameters"], config["provenance"]
    console.print(
        f"\n[bold]{run}[/bold]: {parameters['total']:,} parameters, "
        f"{provenance['tokens_seen']:,} tokens, {provenance['seconds']:.0f} s of training"
    )
    for row in evaluation["texts"]:
        console.print(
            f"  {row['path']}, {row['weights']}.pt: {row['bits_per_byte']:.3f} bits per byte"
        )
    samples = read_lines(run / "samples.jsonl")
    for phase, title in (("pretrain", "It continues stories"), ("sft", "It answers")):
        of_phase = [s for s in samples if s["phase"] == phase]
        last = [s for s in of_phase if s["step"] == of_phase[-1]["step"]]
        console.print(f"\n[bold]{title}[/bold]")
        for sample in last:
            joint = "" if phase == "pretrain" else "\n  → "
            console.print(
                Text("• ") + Text(sample["prompt"], style="cyan") + joint + sample["completion"]
            )
    console.print(
        f"\nIn {run}: tokenizer.json, pretrain.pt, model.pt, samples.jsonl, loss_curve.png and a "
        "model card, README.md\n"
        f"[bold]Try next[/bold]: tmlm chat --model {run} --temperature 0.2"
    )
