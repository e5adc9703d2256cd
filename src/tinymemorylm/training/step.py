"""One optimiser step: the objectives of a whole batch, a micro-batch at a time.

In: a model, an optimiser and a batch. Out: updated weights and the figures of the step. The
loss is sum(w nll) / sum(w) over the whole batch, whatever the micro-batch and however many
processes share it: each has the whole batch at hand, weighs it all, and runs its own rows.
"""

import math
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tinymemorylm.batches import Batch
from tinymemorylm.config import Phase
from tinymemorylm.errors import RunError
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.objectives import (
    annealed,
    horizon_targets,
    linear_cross_entropy,
    relevance_loss,
    response_log_likelihood,
    target_weights,
    token_nll,
)
from tinymemorylm.training.distributed import ALONE, Processes
from tinymemorylm.training.optimizer import Optimizer

ACTIVATION_BYTES = 4 * 16
"""Rough bytes kept for the backward pass per token, logical layer and unit of width."""


@dataclass(frozen=True)
class TokenTable:
    """Facts about tokens the losses need, on the model's device, (vocab_size,) each."""

    is_word: Tensor
    byte_lengths: Tensor


@dataclass(frozen=True)
class StepFigures:
    """Unweighted figures of one step; nll in nats per token of the main head.

    In SFT they count what the assistant says, whatever else has a weight.
    """

    loss: float
    nll: float
    bits_per_byte: float
    grad_norm: float
    horizon_nll: dict[int, float]
    relevance: float | None = None


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 where the device computes in it natively, else plain float32."""
    if device.type == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", torch.bfloat16)
    return nullcontext()


def micro_batch_rows(model: Transformer, seq: int, rows: int, memory_bytes: int) -> int:
    """The most rows whose activations fit in `memory_bytes`; at least one."""
    config = model.config
    per_token = ACTIVATION_BYTES * config.n_logical_layers * (config.d_model + config.d_ff)
    return max(1, min(rows, memory_bytes // (per_token * seq)))


def bits(nats: float) -> float:
    return nats / math.log(2)


def _on(device: torch.device, batch: Batch) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    arrays = (batch.tokens, batch.segments, batch.is_target)
    tokens, segments, is_target = (torch.from_numpy(a).to(device) for a in arrays)
    index = batch.response_index
    return (
        tokens,
        segments,
        is_target,
        None if index is None else torch.from_numpy(index).to(device),
    )


def attention_segments(segments: Tensor) -> Tensor | None:
    """Segments for the mask, or None where every row is one document: causal needs no mask."""
    return None if bool((segments == segments[:, :1]).all()) else segments


def train_step(
    model: Transformer,
    optimizer: Optimizer,
    batch: Batch,
    relevance: "Batch | None",
    phase: Phase,
    table: TokenTable,
    *,
    seq: int,
    step: int,
    progress: float,
    n_layers: int | None = None,
    learning_rate: float,
    memory_bytes: int,
    processes: Processes = ALONE,
) -> StepFigures:
    """Take one step. `progress` is the share of the phase done, for the boosts.

    step: its number, by which further horizons take turns at positions (`mtp_every`).
    n_layers: how many logical layers it runs; None: all.

    relevance: rows of `relevance_negatives` + 1 consecutive conversations per group, or None.
    processes: those that take the step together, each with the same batch and the same weights.
    Raises RunError, weights untouched, if the loss or a gradient is not finite, or if the step
    leaves a weight that isn't.
    """
    device = model.embedding.weight.device
    tokens, segments, is_target, response_index = _on(device, batch)
    horizons = (1, *(model.config.mtp_horizons if phase.mtp_weight else ()))
    targets, weights, reported = {}, {}, {}  # by horizon, (rows, seq) each
    for k in horizons:
        targets[k], same = horizon_targets(tokens, segments, seq, k)
        learned = same & is_target[:, k : k + seq]
        if k > 1:
            learned &= (torch.arange(seq, device=device) + step) % phase.mtp_every == 0
        weights[k] = target_weights(
            targets[k],
            learned,
            table.is_word,
            annealed(phase.word_boost, phase.boost_anneal, progress),
            None if response_index is None else response_index[:, k : k + seq],
            annealed(phase.response_boost, phase.boost_anneal, progress),
            phase.response_boost_tokens,
            phase.prompt_weight,
        )
        spoken = True if response_index is None else response_index[:, k : k + seq] > 0
        reported[k] = (weights[k] > 0) & spoken
    totals = {k: float(weights[k].sum()) or 1.0 for k in horizons}
    shares = {k: 1.0 if k == 1 else phase.mtp_weight / (len(horizons) - 1) for k in horizons}

    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group.get("lr_scale", 1.0)
    optimizer.zero_grad()
    tally: dict[Any, float] = dict.fromkeys(("loss", "byte_nats", "bytes", "relevance"), 0.0)
    tally |= dict.fromkeys([(name, k) for name in ("nats", "count") for k in horizons], 0.0)
    own = processes.share(len(tokens))
    rows = micro_batch_rows(model, seq, len(tokens), memory_bytes)
    for start in range(own.start, own.stop, rows):
        part = slice(start, min(start + rows, own.stop))
        with autocast(device):
            inputs = segments[part, :seq]
            states = model(tokens[part, :seq], attention_segments(inputs), n_layers=n_layers)
            micro_loss = states.new_zeros(())
            for k in horizons:
                kept = weights[k][part].flatten().nonzero()[:, 0]
                if not len(kept):
                    continue
                wanted = targets[k][part].flatten()[kept]
                hidden = model.head_input(states.flatten(0, 1)[kept], k)
                weighted, nll = linear_cross_entropy(
                    hidden, model.embedding.weight, wanted, weights[k][part].flatten()[kept]
                )
                micro_loss = micro_loss + weighted * (shares[k] / totals[k])
                counted = reported[k][part].flatten()[kept]
                tally["nats", k] += float(nll[counted].sum())
                tally["count", k] += int(counted.sum())
                if k == 1:
                    lengths = table.byte_lengths[wanted] * counted
                    tally["byte_nats"] += float(nll[lengths > 0].sum())
                    tally["bytes"] += int(lengths.sum())
        if micro_loss.requires_grad:
            micro_loss.backward()
        tally["loss"] += float(micro_loss.detach())

    if relevance is not None:
        size = phase.relevance_negatives + 1
        n_groups = len(relevance.tokens) // size
        groups = processes.share(n_groups)
        if groups.start < groups.stop:
            mine = relevance.part(slice(groups.start * size, groups.stop * size))
            with autocast(device):
                contrast = relevance_objective(model, mine, phase.relevance_negatives)
            contrast = contrast * ((groups.stop - groups.start) / n_groups)
            (phase.relevance_weight * contrast).backward()
            tally["relevance"] += float(contrast.detach())
            tally["loss"] += phase.relevance_weight * float(contrast.detach())

    processes.sum_gradients(list(model.parameters()))
    tally = processes.sums(tally)
    loss = tally["loss"]
    grad_norm = float(torch.nn.utils.clip_grad_norm_(model.parameters(), phase.max_grad_norm))
    if not math.isfinite(loss) or not math.isfinite(grad_norm):
        raise RunError(f"the loss is {loss} and the gradient norm {grad_norm}: not finite")
    optimizer.step()
    if not all_finite(model):
        raise RunError("the step made weights that are not finite")
    nll = {k: tally["nats", k] / max(1, tally["count", k]) for k in horizons}
    return StepFigures(
        loss=loss,
        nll=nll[1],
        bits_per_byte=bits(tally["byte_nats"]) / max(1, tally["bytes"]),
        grad_norm=grad_norm,
        horizon_nll={k: nll[k] for k in horizons[1:]},
        relevance=None if relevance is None else tally["relevance"],
    )


@torch.no_grad()
def all_finite(model: Transformer) -> bool:
    """Whether every weight is a number that can be trained on."""
    return math.isfinite(float(torch.nn.utils.get_total_norm(list(model.parameters()))))


def relevance_objective(model: Transformer, batch: Batch, negatives: int) -> Tensor:
    """`relevance_loss` of a batch of rows in groups: true prompt first, then the others."""
    device = model.embedding.weight.device
    tokens, segments, _, response_index = _on(device, batch)
    assert response_index is not None
    states = model(tokens[:, :-1], segments[:, :-1])
    is_response = response_index[:, 1:] > 0
    kept = is_response.flatten().nonzero()[:, 0]
    hidden = model.head_input(states.flatten(0, 1)[kept])
    nll = states.new_zeros(is_response.numel(), dtype=torch.float32)
    nll = nll.index_copy(
        0, kept, token_nll(hidden, model.embedding.weight, tokens[:, 1:].flatten()[kept])
    )
    scores = response_log_likelihood(nll.view_as(is_response), is_response)
    return relevance_loss(scores.view(-1, negatives + 1))


@torch.no_grad()
def validation_figures(
    model: Transformer,
    batches: list[Batch],
    seq: int,
    table: TokenTable,
    processes: Processes = ALONE,
) -> tuple[float, float]:
    """Mean nll in nats per target, and bits per byte (<eos> and other controls left out)."""
    device = model.embedding.weight.device
    tally = dict.fromkeys(("nats", "count", "byte_nats", "bytes"), 0.0)
    for batch in batches[processes.share(len(batches))]:
        tokens, segments, _, response_index = _on(device, batch)
        targets, kept = horizon_targets(tokens, segments, seq, 1)
        kept &= segments[:, :seq] >= 0
        if response_index is not None:
            kept &= response_index[:, 1 : seq + 1] > 0
        with autocast(device):
            states = model(tokens[:, :seq], attention_segments(segments[:, :seq]))
            wanted = targets[kept]
            nll = token_nll(model.head_input(states[kept]), model.embedding.weight, wanted)
        lengths = table.byte_lengths[wanted]
        tally["nats"] += float(nll.sum())
        tally["count"] += len(wanted)
        tally["byte_nats"] += float(nll[lengths > 0].sum())
        tally["bytes"] += int(lengths.sum())
    tally = processes.sums(tally)
    bits_per_byte = bits(tally["byte_nats"]) / max(1, tally["bytes"])
    return tally["nats"] / max(1, tally["count"]), bits_per_byte
