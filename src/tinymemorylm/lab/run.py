"""One run of the lab: an arm's recipe at one seed, trained and measured.

In: a recipe, a kind of tokenizer, texts to measure on. Out: an ordinary model directory, and in it
`scores-ARM.json` for each arm the run stands for. Tokenizers and packed data are made once and
shared by the runs that differ in neither.
"""

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch

from tinymemorylm.config import Recipe
from tinymemorylm.corpus import BadInput, read_documents, source_digest
from tinymemorylm.device import choose_device
from tinymemorylm.errors import InputError, RunError
from tinymemorylm.evaluation.bits_per_byte import score_documents
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.files import read_json, write_json, write_text
from tinymemorylm.lab.tokenizers import Kind, load_kind, train_kind
from tinymemorylm.model_directory import load_model, read_log_boost
from tinymemorylm.progress import log
from tinymemorylm.report.run_report import reported
from tinymemorylm.tokenizer import Tokenizer
from tinymemorylm.training.beginning import is_finished
from tinymemorylm.training.changes import changes, written
from tinymemorylm.training.loop import InterruptedRunError
from tinymemorylm.training.phases import train
from tinymemorylm.training.prepare import check_sources, prepare, tokenizer_texts


@dataclass(frozen=True)
class Measure:
    """An arm the run stands for. adjust: correct a constant word boost when evaluating."""

    arm: str
    adjust: bool


@dataclass(frozen=True)
class LabRun:
    """A run and where it lives; its recipe holds the seed."""

    folder: Path
    recipe: Recipe
    tokenizer: Kind
    measures: tuple[Measure, ...]
    eval_texts: tuple[str, ...]
    device: str | None = None
    skip_bad: bool = False


@cache
def _digests(sources: tuple[str, ...]) -> dict[str, str]:
    return source_digest(sources)


def _key(*values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:12]


def check_run(run: LabRun) -> None:
    """Note what the run is.

    Raises InputError for missing data or texts, or if the folder was begun with other settings.
    """
    recipe = run.recipe
    check_sources(recipe)
    _digests(run.eval_texts)
    settings = {
        "recipe": written(recipe),
        "tokenizer": run.tokenizer,
        "sources": _digests((*recipe.data, *recipe.chat_data)),
    }
    note = run.folder / "lab.json"
    if not note.exists():
        write_json(note, settings)
        return
    if found := changes(read_json(note), settings):
        raise InputError(
            f"{run.folder} was begun with {found[0].field} {found[0].before!r}, not "
            f"{found[0].now!r}; name another --out"
        )


def prepare_run(run: LabRun, out: Path) -> None:
    """Give the run its tokenizer and token streams, made under `out` unless they are there."""
    if (run.folder / "prepared.json").exists():
        return
    recipe = run.recipe
    tokenizer = _shared_tokenizer(run, out)
    phases = tuple(p for p in ("pretrain", "sft") if getattr(recipe, p).tokens)
    sources = _digests((*recipe.data, *recipe.chat_data))
    packing = (recipe.document_separator, recipe.validation_share, recipe.spell_share, recipe.seed)
    shared = out / "data" / _key(sources, tokenizer.sha256, phases, packing)
    prepare(recipe, shared, phases, tokenizer, run.skip_bad)
    for name in ("tokenizer.json", "chat_template.jinja"):
        shutil.copyfile(shared / name, run.folder / name)
    streams = run.folder / "shards"
    if not streams.is_symlink():
        streams.symlink_to(os.path.relpath(shared / "shards", run.folder))
    write_text(run.folder / "prepared.json", (shared / "prepared.json").read_text())


def _shared_tokenizer(run: LabRun, out: Path) -> Tokenizer:
    recipe = run.recipe
    sources = _digests((*recipe.data, *recipe.chat_data))
    key = _key(sources, recipe.document_separator)
    path = out / "tokenizers" / f"{run.tokenizer}-{recipe.vocab_size}-{key}" / "tokenizer.json"
    if not path.exists():
        texts = tokenizer_texts(recipe, BadInput(skip=run.skip_bad))
        train_kind(texts, run.tokenizer, recipe.vocab_size).save(path)
    return load_kind(path, run.tokenizer)


def perform(run: LabRun) -> None:
    """Train, or go on training, and measure; a failure of training is noted, not raised.

    Raises InputError for unusable data, InterruptedRunError after a signal.
    """
    if all(scores(run, measure.arm) for measure in run.measures):
        return
    tokenizer = load_kind(run.folder / "tokenizer.json", run.tokenizer)
    log(f"{run.folder}")
    (run.folder / "failure.json").unlink(missing_ok=True)
    try:
        if not is_finished(run.folder, run.recipe):
            with reported(run.folder):
                train(
                    run.recipe,
                    run.folder,
                    tokenizer=tokenizer,
                    resume=True,
                    device=run.device,
                    threads=torch.get_num_threads(),
                )
        _measure(run, tokenizer)
    except InterruptedRunError:
        raise
    except RunError as error:
        note_failure(run, str(error))


def note_failure(run: LabRun, why: str) -> None:
    log(f"{run.folder} failed: {why}")
    write_json(run.folder / "failure.json", {"error": why})


def failure(run: LabRun) -> str | None:
    """Why the run failed, if it did."""
    path = run.folder / "failure.json"
    return json.loads(path.read_text())["error"] if path.exists() else None


def scores(run: LabRun, arm: str) -> dict[str, Any] | None:
    """What was measured for an arm; None if it has not been, or on other texts."""
    path = run.folder / f"scores-{arm}.json"
    found = json.loads(path.read_text()) if path.exists() else None
    return found if found and found["sources"] == _digests(run.eval_texts) else None


def _measure(run: LabRun, tokenizer: Tokenizer) -> None:
    """Bits per byte of each text, by the evaluation protocol."""
    device = str(choose_device(run.device))
    model, _ = load_model(run.folder, device=device, tokenizer=tokenizer)
    boost = read_log_boost(run.folder, tokenizer)
    for measure in run.measures:
        rows = []
        for text in run.eval_texts:
            documents = read_documents(
                [text],
                document_separator=run.recipe.document_separator,
                bad=BadInput(skip=run.skip_bad),
            )
            scorer = Scorer(model, tokenizer, boost if measure.adjust else None)
            score = score_documents(scorer, documents)
            rows.append(
                {
                    "path": text,
                    "bits_per_byte": round(score.bits_per_byte, 6),
                    "nats": round(score.nats, 3),
                    "bytes": score.n_bytes,
                    "tokens": score.n_tokens,
                }
            )
        adjusted = measure.adjust and boost is not None
        found = {"sources": _digests(run.eval_texts), "adjusted": adjusted, "texts": rows}
        write_json(run.folder / f"scores-{measure.arm}.json", found)
