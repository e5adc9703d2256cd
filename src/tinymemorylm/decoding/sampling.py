"""From logits to the next token.

In: one position's logits (vocab_size,) and the ids so far. Out: an id. NumPy only, so that
every engine samples alike.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tinymemorylm.errors import InputError


@dataclass(frozen=True)
class Sampling:
    """How to choose. temperature 0 is greedy; top_k 0, top_p 1, min_p 0, penalty 1 are off.

    Filters apply in this order: repetition penalty (Keskar et al. 2019), temperature, top_k,
    top_p (Holtzman et al. 2020), min_p (Nguyen et al. 2024).
    """

    temperature: float = 0.7
    top_k: int = 0
    top_p: float = 0.95
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature must be 0 or more, not {self.temperature}")
        if self.top_k < 0:
            raise InputError(f"top_k must be 0 (off) or more, not {self.top_k}")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p must be above 0, at most 1, not {self.top_p}")
        if not 0 <= self.min_p <= 1:
            raise InputError(f"min_p must be between 0 and 1, not {self.min_p}")
        if not (math.isfinite(self.repetition_penalty) and self.repetition_penalty > 0):
            raise InputError(f"repetition_penalty must be above 0, not {self.repetition_penalty}")
        if self.seed < 0:
            raise InputError(f"seed must be 0 or more, not {self.seed}")


def probabilities(
    logits: NDArray[np.float32], sampling: Sampling, seen: Sequence[int]
) -> NDArray[np.float64]:
    """The distribution to draw from, (vocab_size,), for a temperature above 0."""
    scores = penalised(logits, sampling, seen) / sampling.temperature
    if 0 < sampling.top_k < len(scores):
        scores[scores < np.partition(scores, -sampling.top_k)[-sampling.top_k]] = -np.inf
    p = np.exp(scores - scores.max())
    p /= p.sum()
    if sampling.top_p < 1:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]  # the mass of likelier tokens
        p[order[before >= sampling.top_p]] = 0
    if sampling.min_p > 0:
        p[p < sampling.min_p * p.max()] = 0
    return p / p.sum()


def penalised(
    logits: NDArray[np.float32], sampling: Sampling, seen: Sequence[int]
) -> NDArray[np.float64]:
    """Logits of tokens already seen, made less likely."""
    scores = logits.astype(np.float64)
    if sampling.repetition_penalty != 1 and len(seen):
        ids = np.unique(np.asarray(seen))
        penalty = sampling.repetition_penalty
        scores[ids] = np.where(scores[ids] > 0, scores[ids] / penalty, scores[ids] * penalty)
    return scores


def choose(
    logits: NDArray[np.float32], sampling: Sampling, seen: Sequence[int], rng: np.random.Generator
) -> int:
    """The next id. Ties of greedy choice go to the lower id."""
    if sampling.temperature == 0:
        return int(np.argmax(penalised(logits, sampling, seen)))
    return int(rng.choice(len(logits), p=probabilities(logits, sampling, seen)))
