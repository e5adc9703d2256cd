"""How a phase's tokens become steps: lengths, rows, and which data each step reads.

In: a `Phase`. Out: a `Schedule`, from which any step's shape and data position follow.
"""

import math
from dataclasses import dataclass

from tinymemorylm.config import ModelConfig, Phase


@dataclass(frozen=True)
class Stage:
    """Steps of one length: rows sequences of seq tokens each, `steps` times."""

    seq: int
    rows: int
    steps: int

    @property
    def tokens_per_step(self) -> int:
        return self.seq * self.rows


class Schedule:
    """The phase's stages: most tokens at `sequence_length`, the last ones at the long length.

    Tokens per step stay equal, so the long stage has fewer rows: at least one.
    """

    def __init__(self, phase: Phase) -> None:
        per_step = phase.batch_size * phase.sequence_length
        long_rows = max(1, per_step // phase.long_sequence_length)
        long_step = long_rows * phase.long_sequence_length
        long_steps = round(phase.tokens * phase.long_share / long_step)
        steps = max(0, math.ceil((phase.tokens - long_steps * long_step) / per_step))
        self.stages = [
            Stage(phase.sequence_length, phase.batch_size, steps),
            Stage(phase.long_sequence_length, long_rows, long_steps),
        ]
        self.n_steps = steps + long_steps

    def stage(self, step: int) -> tuple[Stage, int]:
        """The stage of `step` (from 0) and the index of its first row within the stage."""
        first, last = self.stages
        if step < first.steps:
            return first, step * first.rows
        return last, (step - first.steps) * last.rows


def layers_of_step(phase: Phase, config: ModelConfig, step: int, n_steps: float) -> int | None:
    """Logical layers `step` (from 0) runs: one pass of the tied blocks, or None for all."""
    return config.n_unique_layers if step < round(phase.one_pass_share * n_steps) else None
