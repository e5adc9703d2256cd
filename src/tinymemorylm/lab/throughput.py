"""Training throughput: tokens per second of our step, of a peer's, and FLOP/s against sgemm.

In: a preset, lengths, how often. Out: the object `tmlm bench train --json` prints. Everything is
measured in one run, in turns, so that a busy machine slows all of it alike.

Both sides see the same random tokens, TOKENS a step, each row one document: no masks but the
causal one and the window. Both clip gradients and step the same fused AdamW in float32. Making
batches is left out on both sides; ours includes the figures a step reports and its checks.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal

import numpy as np
import torch

from tinymemorylm.batches import Batch
from tinymemorylm.config import ModelConfig, Phase, preset
from tinymemorylm.errors import InputError
from tinymemorylm.export.source import check_extra
from tinymemorylm.lab.peers import ministral
from tinymemorylm.lab.results import hardware
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.progress import Progress
from tinymemorylm.training.machine import activation_budget
from tinymemorylm.training.optimizer import BETA1, make_optimizer
from tinymemorylm.training.step import TokenTable, train_step

TOKENS = 4096
"""Tokens of a step at every length: 16 x 256, 8 x 512, 2 x 2,048."""
SGEMM_SIZE = 1536
"""Side of the square float32 matrices the machine's limit is measured with."""
TURN = 128
"""SFT: a row is conversations of this length, the second half the assistant's."""
PHASE = Phase()
SFT = Phase(learning_rate=2e-4, relevance_weight=0.1)

Step = Callable[[], Any]


def rows_of(seq: int) -> int:
    """Sequences in a step."""
    return TOKENS // seq


@dataclass(frozen=True)
class Side:
    """Something that trains: its name in the report, and what takes one step."""

    name: str
    step: Step


def mean_keys(seq: int, window: int | None) -> float:
    """Keys a query sees on average in a causal row of `seq`; window None: the whole past."""
    reach = min(window or seq, seq)
    return (reach * (reach + 1) / 2 + (seq - reach) * reach) / seq


def attention_flops_per_token(config: ModelConfig, seq: int) -> float:
    """Scores and mixing, forward and backward: 6 x 2 d_model x (keys seen on average), by layer."""
    keys = sum(
        mean_keys(seq, None if config.is_global(i) else config.sliding_window)
        for i in range(config.n_logical_layers)
    )
    return 6.0 * 2 * config.d_model * keys


def training_flops_per_token(config: ModelConfig, seq: int) -> float:
    """FLOPs of a training step per token, forward and backward, all horizons on.

    6 x (multiply-adds of the forward pass): the backward pass makes two products for each of the
    forward's. Forward, per token: every logical layer's matrices (a shared one as often as it
    runs), scores and mixing, each horizon's adapter, and the unembedding once for each head.
    Norms, activations, softmax and the optimiser count nothing.
    """
    d, kv = config.d_model, config.n_kv_heads * config.head_dim
    layer = d * (d + 2 * kv) + d * d + 3 * d * config.d_ff
    projection = d * config.embedding_rank if config.embedding_rank else 0
    head = config.vocab_size * (config.embedding_rank or d) + projection
    horizons = len(config.mtp_horizons)
    adapter = d * d if config.mtp_rank is None else 2 * d * config.mtp_rank
    matrices = (
        projection + config.n_logical_layers * layer + horizons * adapter + (1 + horizons) * head
    )
    return 6.0 * matrices + attention_flops_per_token(config, seq)


def sgemm_gflops(size: int, seconds: float) -> float:
    """GFLOP/s of float32 products of (size, size) matrices on all threads, for about `seconds`."""
    a, b = torch.rand(size, size), torch.rand(size, size)
    out = torch.empty(size, size)
    times = 0
    began = time.perf_counter()
    while not times or time.perf_counter() - began < seconds:
        torch.mm(a, b, out=out)
        times += 1
    return 2 * size**3 * times / (time.perf_counter() - began) / 1e9


def _random_batch(config: ModelConfig, seq: int, rows: int, chat: bool) -> Batch:
    """Random tokens in rows of `seq`, with the columns the horizons look ahead at."""
    rng = np.random.default_rng(0)
    shape = (rows, seq + max((1, *config.mtp_horizons)))
    turn = min(TURN, seq)
    tokens = rng.integers(0, config.vocab_size, shape)
    place = np.tile(np.arange(shape[1]), (shape[0], 1))
    segments = place // turn if chat else np.zeros(shape, np.int64)
    index = np.maximum(place % turn - turn // 2 + 1, 0) if chat else None
    return Batch(tokens, segments, np.ones(shape, np.bool_), index)


def _relevance_batch(config: ModelConfig) -> Batch:
    """The groups of a step, each response under its own prompt and under others."""
    rng = np.random.default_rng(1)
    shape = (SFT.relevance_groups * (SFT.relevance_negatives + 1), TURN)
    index = np.tile(np.maximum(np.arange(TURN) - TURN // 2 + 1, 0), (shape[0], 1))
    tokens = rng.integers(0, config.vocab_size, shape)
    return Batch(tokens, np.zeros(shape, np.int64), np.ones(shape, np.bool_), index)


def our_side(
    config: ModelConfig, seq: int, phase: Literal["pretrain", "sft"], rows: int | None = None
) -> Side:
    """Our own training step, all objectives of the phase on, as `training` takes it.

    rows: sequences in a step; None: as many as make TOKENS.
    """
    settings = PHASE if phase == "pretrain" else SFT
    model = initialise(Transformer(config), 0).train()
    optimizer = make_optimizer(model, settings)
    table = TokenTable(
        torch.arange(config.vocab_size) % 2 == 0,
        torch.full((config.vocab_size,), 3, dtype=torch.int64),
    )
    batch = _random_batch(config, seq, rows or rows_of(seq), chat=phase == "sft")
    groups = _relevance_batch(config) if phase == "sft" else None
    memory_bytes = activation_budget(torch.device("cpu"))

    def step() -> None:
        train_step(
            model,
            optimizer,
            batch,
            groups,
            settings,
            table,
            seq=seq,
            step=0,
            progress=0.0,
            learning_rate=settings.learning_rate,
            memory_bytes=memory_bytes,
        )

    return Side("ours" if phase == "pretrain" else "ours-sft", step)


def hugging_face_side(config: ModelConfig, seq: int) -> Side:
    """Transformers' Ministral trained the plain way: next token alone, its own loss."""
    model = ministral(config).train()
    optimizer = torch.optim.AdamW(
        [
            {"params": [p for p in model.parameters() if p.dim() >= 2]},
            {"params": [p for p in model.parameters() if p.dim() < 2], "weight_decay": 0.0},
        ],
        lr=PHASE.learning_rate,
        betas=(BETA1, PHASE.adam_beta2),
        weight_decay=PHASE.weight_decay,
        fused=True,
    )
    batch = _random_batch(config, seq, rows_of(seq), chat=False)
    tokens = torch.from_numpy(batch.tokens[:, :seq]).contiguous()

    def step() -> None:
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), PHASE.max_grad_norm)
        optimizer.step()

    return Side("hf", step)


def _check(config: ModelConfig, sequences: Sequence[int], pairs: int, seconds: float) -> None:
    for seq in sequences:
        if not 1 <= seq <= min(TOKENS, config.context_length):
            most = min(TOKENS, config.context_length)
            raise InputError(f"a sequence must be 1 to {most} tokens long, not {seq}")
    if pairs < 1 or seconds < 0 or not sequences:
        raise InputError(
            f"give at least one sequence, one pair and 0 seconds, not {len(sequences)}, {pairs} "
            f"and {seconds}"
        )


def _tokens_per_second(side: Side, seq: int, seconds: float) -> float:
    steps = 0
    began = time.perf_counter()
    while not steps or time.perf_counter() - began < seconds:
        side.step()
        steps += 1
    return steps * rows_of(seq) * seq / (time.perf_counter() - began)


def measure(
    preset_name: str,
    sequences: Sequence[int],
    *,
    vs_hf: bool,
    pairs: int,
    seconds: float,
) -> dict[str, Any]:
    """Time all sides at all lengths in turns, `pairs` times, each for at least `seconds`.

    Returns DESIGN's object, and for each row its spread and GFLOP/s. `ratios` is the median over
    the pairs of ours (pretraining) over theirs; `ratios_sft` the same for our SFT step, whose
    rows also carry the relevance groups. `sgemm_gflops` is the median of what was measured between
    them; `achieved_gflops` is ours in pretraining, all lengths together. Raises InputError for a
    bad length or number, or where Transformers is wanted and missing.
    """
    config = preset(preset_name)
    if vs_hf:
        check_extra("transformers")
    _check(config, sequences, pairs, seconds)
    found: dict[tuple[str, int], list[float]] = {}
    sgemm: list[float] = []
    turns = len(sequences) * (pairs + 1)
    with Progress("bench train", turns) as progress:
        for number, seq in enumerate(sequences):
            sides = [our_side(config, seq, "pretrain"), our_side(config, seq, "sft")]
            if vs_hf:
                sides.insert(1, hugging_face_side(config, seq))
            for side in sides:
                side.step()  # the first one allocates
            for pair in range(pairs):
                sgemm.append(sgemm_gflops(SGEMM_SIZE, seconds / 4))
                for side in sides if pair % 2 == 0 else sides[::-1]:
                    speed = _tokens_per_second(side, seq, seconds)
                    found.setdefault((side.name, seq), []).append(speed)
                done = number * (pairs + 1) + pair + 2
                ours = found["ours", seq][-1]
                progress.update(done, f"length {seq:,}: ours {ours:,.0f} tokens/s")
    flops = {seq: training_flops_per_token(config, seq) for seq in sequences}
    return {
        "preset": preset_name,
        "hardware": hardware(1, torch.get_num_threads(), "cpu"),
        "pairs": pairs,
        "rows": [_row(name, seq, speeds, flops[seq]) for (name, seq), speeds in found.items()],
        "ratios": _ratios(found, "ours", sequences) if vs_hf else {},
        "ratios_sft": _ratios(found, "ours-sft", sequences) if vs_hf else {},
        "sgemm_gflops": round(median(sgemm), 1),
        "achieved_gflops": round(
            sum(flops[seq] for seq in sequences)
            / sum(1 / median(found["ours", seq]) for seq in sequences)
            / 1e9,
            1,
        ),
    }


def _row(name: str, seq: int, speeds: Sequence[float], flops: float) -> dict[str, Any]:
    middle = median(speeds)
    row = {
        "name": name,
        "sequence": seq,
        "batch": rows_of(seq),
        "tokens_per_second": round(middle, 1),
        "slowest": round(min(speeds), 1),
        "fastest": round(max(speeds), 1),
    }
    return row | {"gflops": round(middle * flops / 1e9, 1)} if name == "ours" else row


def _ratios(
    found: dict[tuple[str, int], list[float]], name: str, sequences: Sequence[int]
) -> dict[str, float]:
    return {
        str(seq): round(
            median(a / b for a, b in zip(found[name, seq], found["hf", seq], strict=True)), 3
        )
        for seq in sequences
    }


def table(found: dict[str, Any]) -> str:
    """The report as plain text."""
    lines = [f"{'':10}{'sequence':>10}{'batch':>7}{'tokens/s':>12}{'slowest':>11}{'fastest':>11}"]
    for row in found["rows"]:
        lines.append(
            f"{row['name']:10}{row['sequence']:>10,}{row['batch']:>7}"
            f"{row['tokens_per_second']:>12,.0f}{row['slowest']:>11,.0f}{row['fastest']:>11,.0f}"
        )
    for key, name in (("ratios", "ours / hf"), ("ratios_sft", "ours-sft / hf")):
        if found[key]:
            shown = ", ".join(f"{seq}: {ratio:.2f}" for seq, ratio in found[key].items())
            lines.append(f"{name}, median of {found['pairs']} pairs: {shown}")
    share = found["achieved_gflops"] / found["sgemm_gflops"]
    lines.append(
        f"{found['achieved_gflops']:.1f} GFLOP/s of {found['sgemm_gflops']:.1f} with sgemm "
        f"({share:.0%}), {found['hardware']['threads']} threads"
    )
    return "\n".join(lines)
