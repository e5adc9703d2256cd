"""A whole run: tokenizer, pretraining, SFT, into one model directory.

In: a recipe and an output directory. Out: a model directory as DESIGN's contract has it, less
what `report` draws from it; resumable at any moment.
"""

import dataclasses
import platform
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import torch

from tinymemorylm import __version__
from tinymemorylm.batches import (
    Batch,
    ChatBatches,
    RelevanceBatches,
    TextBatches,
    TokenStream,
    follow_counts,
)
from tinymemorylm.config import ModelConfig, Phase, Recipe
from tinymemorylm.device import choose_device
from tinymemorylm.drills import Drills
from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file, write_json
from tinymemorylm.model.account import parameter_account
from tinymemorylm.model.start import copying_heads, initialise, kindred_embedding
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import load_model, log_boost, save_weights, write_config
from tinymemorylm.progress import log
from tinymemorylm.tensor_files import misfit
from tinymemorylm.tokenizer import WORD, Tokenizer
from tinymemorylm.training.changes import Change, changes, check_recipe, noted_recipe, written
from tinymemorylm.training.checkpoint import load_checkpoint
from tinymemorylm.training.claim import claimed
from tinymemorylm.training.loop import PhaseData, Position, run_phase
from tinymemorylm.training.machine import Machine, restore_random_state, settle
from tinymemorylm.training.optimizer import make_optimizer
from tinymemorylm.training.prepare import packed_digests, prepare
from tinymemorylm.training.run_files import JsonLines
from tinymemorylm.training.samples import draw_samples
from tinymemorylm.training.schedule import Stage
from tinymemorylm.training.sinks import SinkName, TrackedLines, check_sinks
from tinymemorylm.training.step import TokenTable

VALIDATION_TOKENS = 65_536
"""Most tokens of the held-out data looked at by each validation while training."""


def phase_data(
    name: str, phase: Phase, run: Path, tokenizer: Tokenizer, seed: int, ahead: int
) -> PhaseData:
    """The batches of one phase from its streams in the run directory."""
    folder = run / "shards" / name
    train, held_out = TokenStream(folder, "train"), TokenStream(folder, "validation")
    cut: dict[int, TextBatches | ChatBatches] = {}

    drills = Drills(tokenizer, phase.drill_share, seed) if phase.drill_share else None

    def batches(
        stream: TokenStream, seq: int, drills: Drills | None = None
    ) -> TextBatches | ChatBatches:
        if name == "sft":
            return ChatBatches(stream, tokenizer, seq, ahead, seed)
        return TextBatches(stream, tokenizer.bos_id, seq, ahead, seed, drills)

    def batch(stage: Stage, first_row: int) -> Batch:
        if stage.seq not in cut:
            cut[stage.seq] = batches(train, stage.seq, drills)
        return cut[stage.seq].batch(first_row, stage.rows)

    groups = None
    if name == "sft" and phase.relevance_weight:
        chats = ChatBatches(train, tokenizer, phase.sequence_length, ahead, seed)
        groups = RelevanceBatches(chats, phase.relevance_negatives)

    def relevance(step: int) -> Batch | None:
        if groups is None:
            return None
        return groups.batch(step * phase.relevance_groups, phase.relevance_groups)

    seq = min(phase.sequence_length, len(held_out) - ahead)
    if seq < 1:
        raise InputError("the validation split is empty; give more data")
    validation = batches(held_out, seq)
    rows = max(1, min(VALIDATION_TOKENS, len(held_out)) // seq)
    most = max(1, 8192 // seq)
    return PhaseData(
        batch,
        relevance,
        [validation.batch(i, min(most, rows - i)) for i in range(0, rows, most)],
        seq,
    )


def fresh_model(
    config: ModelConfig, recipe: Recipe, run: Path, tokenizer: Tokenizer
) -> Transformer:
    """The model a recipe starts from; its streams in the run directory are there already."""
    model = initialise(Transformer(config), recipe.seed)
    if recipe.copying_heads:
        copying_heads(model, recipe.seed)
    if recipe.kindred_embedding:
        streams = [
            TokenStream(run / "shards" / name, "train")
            for name in ("pretrain", "sft")
            if getattr(recipe, name).tokens
        ]
        counts = torch.from_numpy(follow_counts(streams, tokenizer.vocab_size))
        kindred_embedding(model, counts, recipe.seed)
    return model


def is_finished(run: Path, recipe: Recipe) -> bool:
    return (run / ("model.pt" if recipe.sft.tokens else "pretrain.pt")).exists()


def train(
    recipe: Recipe,
    run: Path,
    *,
    start_from: Path | None = None,
    tokenizer: Tokenizer | None = None,
    resume: bool = False,
    allow_changed: bool = False,
    skip_bad: bool = False,
    device: str | None = None,
    threads: int | None = None,
    track: Sequence[SinkName] = (),
) -> None:
    """Run the recipe's phases into `run`. A phase of 0 tokens is left out.

    start_from: a model directory whose weights and tokenizer SFT starts from, when pretraining
    is left out. tokenizer: one to use instead of building it. allow_changed: go on with a run
    whose recipe was another. threads: how many on a CPU; a resumed run has its own when left out.
    track: sinks for the figures beside `metrics.jsonl`. Raises InputError for a directory in use,
    unusable data or a changed recipe, RunError if training or writing fails, InterruptedRunError
    after a signal.
    """
    with claimed(run, resume=resume):
        finished = resume and is_finished(run, recipe)
        saved = None if finished else saved_state(run)
        changed = check_recipe(
            run, saved["recipe"] if saved else noted_recipe(run), recipe, allow_changed
        )
        if finished:
            log(f"{run} is finished; nothing to do")
            return
        target = choose_device(device)
        check_sinks(track)
        phases = tuple(p for p in ("pretrain", "sft") if getattr(recipe, p).tokens)
        if not phases:
            raise InputError("both phases have 0 tokens: nothing to train")

        model = None
        if start_from is not None:
            model, tokenizer = load_model(start_from)
        tokenizer, counts = prepare(recipe, run, phases, tokenizer, skip_bad)
        if start_from is not None:
            _take_along(start_from / "pretrain.pt", run / "pretrain.pt")
        origin = {"tokenizer_sha256": tokenizer.sha256, "data": packed_digests(run, phases)}
        if saved is not None and (different := changes(saved["origin"], origin)):
            raise InputError(
                f"the checkpoints in {run} were made with another {different[0].field}; "
                "name another --out"
            )
        machine = settle(target, threads, saved["machine"] if saved else None)
        if model is None:
            config = dataclasses.replace(recipe.model(), vocab_size=tokenizer.vocab_size)
            started = saved is not None  # then its weights come from the checkpoint
            model = Transformer(config) if started else fresh_model(config, recipe, run, tokenizer)
        model = model.to(target).train()
        if saved is not None:
            if reason := misfit(saved["model"], model.state_dict()):
                raise InputError(f"the newest checkpoint in {run} is of another model: {reason}")
            model.load_state_dict(saved["model"])
        write_json(run / "recipe.json", written(recipe))
        about = {"recipe": written(recipe), "origin": origin, "machine": asdict(machine)}
        about["changed"] = _history(saved, changed)
        _run_phases(run, recipe, phases, model, tokenizer, counts, machine, about, saved, track)


def _run_phases(
    run: Path,
    recipe: Recipe,
    phases: tuple[str, ...],
    model: Transformer,
    tokenizer: Tokenizer,
    counts: dict[str, Any],
    machine: Machine,
    about: dict[str, Any],
    saved: dict[str, Any] | None,
    track: Sequence[SinkName],
) -> None:
    """Train what is left to train. about: what every checkpoint says of the run beside its state;
    saved: the state to go on from."""
    device = model.embedding.weight.device
    position = Position(phases[0])
    metrics_bytes = samples_bytes = 0
    if saved is not None:
        position = Position(**saved["position"])
        metrics_bytes, samples_bytes = saved["metrics_bytes"], saved["samples_bytes"]
        restore_random_state(saved["random"], device)
        log(f"resumed at step {position.step}")
    metrics = TrackedLines(run / "metrics.jsonl", metrics_bytes, sinks=track)
    samples = JsonLines(run / "samples.jsonl", samples_bytes)
    table = TokenTable(
        torch.from_numpy(tokenizer.classes == WORD).to(device),
        torch.from_numpy(tokenizer.byte_lengths.astype("int64")).to(device),
    )
    describe = partial(_describe, run, recipe, model, tokenizer, counts, about)
    describe(position)
    try:
        for name in phases[phases.index(position.phase) :]:
            phase: Phase = getattr(recipe, name)
            if position.phase != name:
                position.phase, position.phase_step = name, 0
            optimizer = make_optimizer(model, phase)
            if saved is not None:
                optimizer.load_state_dict(saved["optimizer"])
                saved = None
            ahead = max((1, *model.config.mtp_horizons))
            run_phase(
                run,
                model,
                optimizer,
                phase,
                phase_data(name, phase, run, tokenizer, recipe.seed, ahead),
                table,
                position,
                metrics,
                samples,
                partial(_draw, recipe, model, tokenizer),
                machine.activation_bytes,
                about,
            )
            describe(position)
            save_weights(
                run / ("model.pt" if name == "sft" else "pretrain.pt"), model, tokenizer.sha256
            )
    finally:
        metrics.close()
        samples.close()


STATE = {
    *("position", "model", "optimizer", "random", "metrics_bytes", "samples_bytes"),
    *("recipe", "origin", "machine", "changed"),
}
"""What a checkpoint of a run holds."""


def saved_state(run: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's, or None. Says which damaged ones it passed over."""
    found = load_checkpoint(run)
    if found is None:
        return None
    saved, damaged = found
    for folder in damaged:
        log(f"{folder} is damaged; using an older checkpoint")
    if saved.keys() != STATE:
        raise InputError(f"the newest checkpoint in {run} is not of a run; name another --out")
    return saved


def _take_along(weights: Path, copy: Path) -> None:
    """The pretrained weights beside those tuned from them."""
    if weights.exists() and not copy.exists():
        with atomic_file(copy) as file:
            file.write(weights.read_bytes())


def _history(saved: dict[str, Any] | None, changed: list[Change]) -> list[dict[str, Any]]:
    """Every change to the recipe since the run began, with the step it was made at."""
    if saved is None:
        return []
    step = saved["position"]["step"]
    return [*saved["changed"], *({"step": step, **asdict(change)} for change in changed)]


def _draw(
    recipe: Recipe, model: Transformer, tokenizer: Tokenizer, position: Position
) -> Iterator[dict[str, Any]]:
    chat = position.phase == "sft"
    return draw_samples(
        model,
        tokenizer,
        recipe.chat_prompts if chat else recipe.sample_prompts,
        chat=chat,
        log_boost=log_boost(tokenizer, (recipe.sft if chat else recipe.pretrain).logit_adjustment),
        temperature=recipe.chat_temperature if chat else recipe.sample_temperature,
        seed=recipe.seed,
        where={
            "phase": position.phase,
            "step": position.step,
            "tokens_seen": position.tokens_seen,
        },
    )


def _describe(
    run: Path,
    recipe: Recipe,
    model: Transformer,
    tokenizer: Tokenizer,
    counts: dict[str, Any],
    about: dict[str, Any],
    position: Position,
) -> None:
    """Write config.json: what this model is and how far it has come."""
    adjusted = {
        name: phase.logit_adjustment
        for name, phase in (("pretrain", recipe.pretrain), ("model", recipe.sft))
        if phase.tokens and phase.logit_adjustment is not None
    }
    machine = about["machine"]
    provenance = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": counts,
        "tokens_seen": position.tokens_seen,
        "seconds": round(position.seconds, 1),
        "hardware": f"{platform.machine()}, {machine['threads']} threads, {machine['device']}",
        "version": __version__,
        "torch": machine["torch"],
    }
    if about["changed"]:
        provenance["changed"] = about["changed"]
    write_config(
        run,
        model.config,
        {
            "preset": recipe.preset,
            "tokenizer_sha256": tokenizer.sha256,
            "logit_adjustment": adjusted,
            "parameters": parameter_account(model.config),
            "provenance": provenance,
        },
    )
