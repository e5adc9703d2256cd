import copy
import dataclasses
import math
from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinymemorylm.batches import Batch
from tinymemorylm.config import Phase, preset
from tinymemorylm.errors import RunError
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.training import step as step_module
from tinymemorylm.training.optimizer import Optimizer, learning_rate, make_optimizer
from tinymemorylm.training.schedule import Schedule, layers_of_step
from tinymemorylm.training.step import (
    TokenTable,
    micro_batch_rows,
    train_step,
    validation_figures,
)

SEQ, AHEAD = 40, 3
PHASE = Phase(tokens=1000, batch_size=6, sequence_length=SEQ, learning_rate=1e-2)


def batch(rows: int = 6, chat: bool = False) -> Batch:
    rng = np.random.default_rng(2)
    shape = (rows, SEQ + AHEAD)
    tokens = rng.integers(6, 512, shape)
    segments = (rng.random(shape) < 0.05).cumsum(1)
    index = rng.integers(0, 30, shape) * (rng.random(shape) < 0.5) if chat else None
    return Batch(tokens, segments, rng.random(shape) < 0.95, index)


TABLE = TokenTable(torch.arange(512) % 2 == 0, torch.arange(512) % 5)


def run_step(
    model: Transformer, data: Batch, memory: int = 1 << 30, step: int = 0, **changes: object
):
    phase = dataclasses.replace(PHASE, **changes)
    optimizer = Optimizer([torch.optim.SGD(model.parameters(), lr=1.0)])
    return train_step(
        model,
        optimizer,
        data,
        None,
        phase,
        TABLE,
        seq=SEQ,
        step=step,
        progress=0.25,
        learning_rate=1e-3,
        memory_bytes=memory,
    )


def slow_loss(model: Transformer, data: Batch, phase: Phase) -> torch.Tensor:
    """DESIGN's definition, written out: sum(w nll) / sum(w), a position at a time."""
    tokens = torch.from_numpy(data.tokens)
    states = model(tokens[:, :SEQ], torch.from_numpy(data.segments)[:, :SEQ])
    total = torch.zeros(())
    horizons = model.config.mtp_horizons
    for k in (1, *horizons):
        logits = model.logits(states, k)
        above, below = torch.zeros(()), 0.0
        for b in range(len(tokens)):
            for t in range(SEQ):
                target = int(tokens[b, t + k])
                if data.segments[b, t] != data.segments[b, t + k] or not data.is_target[b, t + k]:
                    continue
                w = phase.word_boost if TABLE.is_word[target] else 1.0
                if data.response_index is not None:
                    place = data.response_index[b, t + k]
                    if place == 0:
                        w *= phase.prompt_weight
                    elif place <= phase.response_boost_tokens:
                        w *= phase.response_boost
                above = above + w * F.cross_entropy(logits[b, t], tokens[b, t + k])
                below += w
        total = total + (1.0 if k == 1 else phase.mtp_weight / len(horizons)) * above / below
    return total


@pytest.mark.parametrize(("chat", "prompt_weight"), [(False, 0.0), (True, 0.0), (True, 0.4)])
def test_the_step_minimises_the_loss_as_defined(
    model: Transformer, chat: bool, prompt_weight: float
):
    data = batch(rows=2, chat=chat)
    wanted = slow_loss(model, data, dataclasses.replace(PHASE, prompt_weight=prompt_weight))
    wanted.backward()
    slow = [p.grad.clone() for p in model.parameters()]
    figures = run_step(model, data, max_grad_norm=1e9, prompt_weight=prompt_weight)
    assert figures.loss == pytest.approx(wanted.item(), rel=1e-5)
    for parameter, gradient in zip(model.parameters(), slow, strict=True):
        torch.testing.assert_close(parameter.grad, gradient, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("chat", [False, True])
def test_the_micro_batch_does_not_change_the_step(chat: bool):
    results = []
    for memory in (1 << 30, 1):  # all rows at once; one row at a time
        model = initialise(Transformer(preset("smoke")), 3)
        figures = run_step(model, batch(chat=chat), memory=memory)
        results.append((figures, [p.grad.clone() for p in model.parameters()]))
    (whole, gradients), (pieces, other) = results
    assert pieces.loss == pytest.approx(whole.loss, rel=1e-5)
    assert pieces.bits_per_byte == pytest.approx(whole.bits_per_byte, rel=1e-5)
    for a, b in zip(gradients, other, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-6)


def test_figures_are_unweighted(model: Transformer):
    data = batch()
    plain = run_step(model, data, word_boost=1.0, mtp_weight=0.0)
    fresh = initialise(Transformer(preset("smoke")), 3)
    boosted = run_step(fresh, data, word_boost=5.0, mtp_weight=0.0)
    assert boosted.nll == pytest.approx(plain.nll, rel=1e-6)
    assert boosted.bits_per_byte == pytest.approx(plain.bits_per_byte, rel=1e-6)
    assert plain.loss == pytest.approx(plain.nll, rel=1e-5)


def test_sft_figures_count_the_assistant_alone():
    data = batch(chat=True)
    figures = []
    for prompt_weight in (0.0, 0.7):
        fresh = initialise(Transformer(preset("smoke")), 3)
        figures.append(run_step(fresh, data, prompt_weight=prompt_weight))
    assert figures[0].nll == pytest.approx(figures[1].nll, rel=1e-6)
    assert figures[0].bits_per_byte == pytest.approx(figures[1].bits_per_byte, rel=1e-6)
    assert figures[0].loss != pytest.approx(figures[1].loss, rel=1e-3)


def test_a_loss_that_is_not_finite_stops_before_the_weights_change(model: Transformer):
    with torch.no_grad():
        model.final_norm.weight[0] = math.nan
    before = model.embedding.weight.clone()
    with pytest.raises(RunError, match="not finite"):
        run_step(model, batch())
    assert torch.equal(before, model.embedding.weight)


def test_relevance_depends_on_its_groups_alone(model: Transformer):
    rng = np.random.default_rng(0)
    index = np.tile([0, 0, 0, 0, 1, 2, 3], (4, 1))
    groups = Batch(rng.integers(6, 512, (4, 7)), np.zeros((4, 7), int), index >= 0, index)
    losses = []
    for memory in (1 << 30, 1):
        fresh = initialise(Transformer(preset("smoke")), 3)
        optimizer = Optimizer([torch.optim.SGD(fresh.parameters(), lr=0.0)])
        phase = dataclasses.replace(PHASE, relevance_weight=0.5)
        figures = train_step(
            fresh,
            optimizer,
            batch(chat=True),
            groups,
            phase,
            TABLE,
            seq=SEQ,
            step=0,
            progress=0.0,
            learning_rate=0.0,
            memory_bytes=memory,
        )
        assert figures.relevance is not None
        losses.append((figures.relevance, figures.loss))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    assert 0.1 < losses[0][0] < 3


def test_validation_counts_bytes_of_text_only(model: Transformer):
    data = batch()
    nll, bits_per_byte = validation_figures(model, [data, data], SEQ, TABLE)
    once = validation_figures(model, [data], SEQ, TABLE)
    assert (nll, bits_per_byte) == pytest.approx(once)
    assert 5 < nll < 8


def test_the_micro_batch_shrinks_with_memory(model: Transformer):
    rows = [micro_batch_rows(model, 2048, 48, m) for m in (1, 1 << 26, 1 << 28, 1 << 40)]
    assert rows == sorted(rows) and rows[0] == 1 and rows[-1] == 48


def test_bf16_is_used_only_where_the_device_has_it():
    with step_module.autocast(torch.device("cpu")):
        assert not torch.is_autocast_enabled("cpu")


def test_warmup_is_linear_then_a_cosine_to_the_minimum():
    phase = Phase(learning_rate=1.0, min_learning_rate=0.1, warmup_steps=4)
    rates = [learning_rate(phase, i, 20) for i in range(20)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0 and rates[-1] == pytest.approx(0.1)
    assert all(a >= b for a, b in pairwise(rates[4:]))


def test_weight_decay_is_on_matrices_only(model: Transformer):
    decayed, others = make_optimizer(model, PHASE).param_groups
    assert decayed["weight_decay"] == PHASE.weight_decay and others["weight_decay"] == 0
    assert all(p.dim() == 2 for p in decayed["params"])
    assert all(p.dim() == 1 for p in others["params"])


def test_muon_takes_the_trunks_matrices_at_its_own_rate(model: Transformer):
    phase = dataclasses.replace(PHASE, optimizer="muon")
    optimizer = make_optimizer(model, phase)
    trunk, table, others = optimizer.param_groups
    assert [p is model.embedding.weight for p in table["params"]] == [True]
    assert trunk["lr_scale"] > 1 and all(p.dim() == 2 for p in trunk["params"])
    n = sum(len(group["params"]) for group in (trunk, table, others))
    assert n == len(list(model.parameters()))


def test_the_long_stage_keeps_tokens_per_step_and_its_share():
    phase = Phase(
        tokens=48 * 512 * 100,
        batch_size=48,
        sequence_length=512,
        long_share=0.1,
        long_sequence_length=2048,
    )
    schedule = Schedule(phase)
    first, last = schedule.stages
    assert (first.seq, first.rows, first.steps) == (512, 48, 90)
    assert (last.seq, last.rows, last.steps) == (2048, 12, 10)
    assert schedule.stage(89) == (first, 89 * 48) and schedule.stage(91) == (last, 12)


def test_a_long_row_of_more_than_a_step_does_not_make_the_long_stage_longer():
    phase = Phase(tokens=512 * 400, batch_size=2, sequence_length=256, long_share=0.1)
    first, last = Schedule(phase).stages
    assert (first.rows, first.steps) == (2, 360)
    assert (last.seq, last.rows, last.steps) == (2048, 1, 10)


def test_further_horizons_take_turns_at_positions():
    model = initialise(Transformer(preset("smoke")), 3)
    every = [run_step(copy.deepcopy(model), batch(), mtp_every=1)]
    seen = [run_step(copy.deepcopy(model), batch(), mtp_every=2, step=s) for s in (0, 1)]
    assert seen[0].nll == seen[1].nll == every[0].nll  # the main head always learns everywhere
    assert seen[0].horizon_nll != seen[1].horizon_nll
    for k, nll in every[0].horizon_nll.items():
        assert min(s.horizon_nll[k] for s in seen) < nll < max(s.horizon_nll[k] for s in seen)


def test_a_phase_may_begin_with_one_pass_of_the_tied_blocks():
    phase = dataclasses.replace(PHASE, one_pass_share=0.3)
    layers = [layers_of_step(phase, preset("haiku"), step, 10) for step in range(10)]
    assert layers == [8] * 3 + [None] * 7
    assert layers_of_step(PHASE, preset("haiku"), 0, 10) is None
