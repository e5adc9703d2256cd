"""A whole run: tokenizer, pretraining, SFT, into one model directory.

In: a recipe and an output directory. Out: a model directory as DESIGN's contract has it, less
what `report` draws from it; resumable at any moment.
"""

import platform
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
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
)
from tinymemorylm.config import Phase, Recipe
from tinymemorylm.device import choose_device
from tinymemorylm.drills import Drills
from tinymemorylm.errors import InputError
from tinymemorylm.files import write_json
from tinymemorylm.model.account import parameter_account
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import log_boost, save_weights, write_config
from tinymemorylm.progress import log
from tinymemorylm.tokenizer import WORD, Tokenizer
from tinymemorylm.training.beginning import Beginning, begin, check_shared, make_model
from tinymemorylm.training.changes import written
from tinymemorylm.training.claim import claimed
from tinymemorylm.training.distributed import ALONE, Processes
from tinymemorylm.training.loop import PhaseData, Position, Record, run_phase
from tinymemorylm.training.machine import Machine, restore_random_state, settle
from tinymemorylm.training.optimizer import make_optimizer
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
    processes: Processes = ALONE,
) -> None:
    """Run the recipe's phases into `run`. A phase of 0 tokens is left out.

    start_from: a model directory whose weights and tokenizer SFT starts from, when pretraining
    is left out. tokenizer: one to use instead of building it. allow_changed: go on with a run
    whose recipe was another. threads: how many on a CPU; a resumed run has its own when left out.
    track: sinks for the figures beside `metrics.jsonl`. processes: those that call this together;
    the first one reads the sources and writes `run`, the others only read there.

    Raises InputError for a directory in use, unusable data or a changed recipe, RunError if
    training or writing fails, InterruptedRunError after a signal.
    """
    target = choose_device(device)
    if processes.joined and target.type not in ("cpu", "cuda"):
        raise InputError(f"several processes can't share work on {target}; give --device cpu")
    phases = tuple(p for p in ("pretrain", "sft") if getattr(recipe, p).tokens)
    if not phases:
        raise InputError("both phases have 0 tokens: nothing to train")

    def claim_and_begin() -> Beginning | None:
        held.enter_context(claimed(run, resume=resume))
        check_sinks(track)
        return begin(
            recipe,
            run,
            phases,
            start_from=start_from,
            tokenizer=tokenizer,
            resume=resume,
            allow_changed=allow_changed,
            skip_bad=skip_bad,
        )

    with ExitStack() as held:
        begun = processes.from_first(claim_and_begin)
        if begun is None:
            return
        if not processes.first:
            check_shared(run, phases, begun)
        machine = settle(target, threads, begun.saved and begun.saved["machine"], processes)
        model = processes.from_first(partial(make_model, recipe, run, begun)).to(target).train()
        if processes.first:
            write_json(run / "recipe.json", written(recipe))
        _run_phases(recipe, run, phases, model, begun, machine, track, processes)


def _run_phases(
    recipe: Recipe,
    run: Path,
    phases: tuple[str, ...],
    model: Transformer,
    begun: Beginning,
    machine: Machine,
    track: Sequence[SinkName],
    processes: Processes,
) -> None:
    """Train what is left to train."""
    device = model.embedding.weight.device
    tokenizer, saved = begun.tokenizer, begun.saved
    position = Position(phases[0])
    metrics_bytes = samples_bytes = 0
    if saved is not None:
        position = Position(**saved["position"])
        metrics_bytes, samples_bytes = saved["metrics_bytes"], saved["samples_bytes"]
        restore_random_state(saved["random"], device)
        log(f"resumed at step {position.step}")
    about = {
        "recipe": written(recipe),
        "origin": begun.origin,
        "machine": asdict(machine),
        "changed": begun.history,
    }
    table = TokenTable(
        torch.from_numpy(tokenizer.classes == WORD).to(device),
        torch.from_numpy(tokenizer.byte_lengths.astype("int64")).to(device),
    )
    with ExitStack() as files:
        record = None
        if processes.first:
            metrics = TrackedLines(run / "metrics.jsonl", metrics_bytes, sinks=track)
            files.callback(metrics.close)
            samples = JsonLines(run / "samples.jsonl", samples_bytes)
            files.callback(samples.close)
            record = Record(run, metrics, samples, partial(_draw, recipe, model, tokenizer), about)
            _describe(recipe, model, begun, record, position)
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
                model,
                optimizer,
                phase,
                phase_data(name, phase, run, tokenizer, recipe.seed, ahead),
                table,
                position,
                record,
                machine.activation_bytes,
                processes,
            )
            if record:
                _describe(recipe, model, begun, record, position)
                weights = run / ("model.pt" if name == "sft" else "pretrain.pt")
                save_weights(weights, model, tokenizer.sha256)


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
    recipe: Recipe, model: Transformer, begun: Beginning, record: Record, position: Position
) -> None:
    """Write config.json: what this model is and how far it has come."""
    adjusted = {
        name: phase.logit_adjustment
        for name, phase in (("pretrain", recipe.pretrain), ("model", recipe.sft))
        if phase.tokens and phase.logit_adjustment is not None
    }
    machine = record.about["machine"]
    processes = f"{machine['processes']} processes of " if machine["processes"] > 1 else ""
    threads = f"{processes}{machine['threads']} threads"
    provenance = {
        "recipe": recipe.name,
        "seed": recipe.seed,
        "data": begun.counts,
        "tokens_seen": position.tokens_seen,
        "seconds": round(position.seconds, 1),
        "hardware": f"{platform.machine()}, {threads}, {machine['device']}",
        "version": __version__,
        "torch": machine["torch"],
    }
    if begun.history:
        provenance["changed"] = begun.history
    write_config(
        record.run,
        model.config,
        {
            "preset": recipe.preset,
            "tokenizer_sha256": begun.tokenizer.sha256,
            "logit_adjustment": adjusted,
            "parameters": parameter_account(model.config),
            "provenance": provenance,
        },
    )
