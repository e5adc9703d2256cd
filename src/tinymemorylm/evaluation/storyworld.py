"""How far a model is from a source whose entropy is known: stories of the procedural world.

In: a model and stories, each with the exact bits of its choices. Out: bits per byte of the model
and of the source on the same stories, and the gap between them with its standard error.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymemorylm.corpus.storyworld import Story
from tinymemorylm.evaluation.bits_per_byte import documents_nll
from tinymemorylm.evaluation.positions import ratio
from tinymemorylm.evaluation.scoring import Scorer


@dataclass(frozen=True)
class StoryScores:
    """What each story took, (stories,): bits of the model and of the source, bytes, tokens."""

    model_bits: NDArray[np.float64]
    source_bits: NDArray[np.float64]
    n_bytes: NDArray[np.int64]
    n_tokens: NDArray[np.int64]


def score_stories(scorer: Scorer, stories: Iterable[Story]) -> StoryScores:
    """Score whole stories and the <eos> after each: the source's bits too say where a story ends.

    Windows are those of `bits_per_byte`; bytes are of the text.
    """
    of_story: list[tuple[float, int, int]] = []  # appended as its ids are handed out

    def encoded() -> Iterator[list[int]]:
        for story in stories:
            ids = [*scorer.tokenizer.encode(story.text), scorer.tokenizer.eos_id]
            of_story.append((story.bits, len(story.text.encode()), len(ids)))
            yield ids

    nats: list[float] = []
    left = 0  # tokens of the story at hand still to come
    for nll in documents_nll(scorer, encoded()):
        if left == 0:
            left = of_story[len(nats)][2]
            nats.append(0.0)
        nats[-1] += float(nll.sum())
        left -= len(nll)
    bits, n_bytes, n_tokens = zip(*of_story, strict=True) if of_story else ((), (), ())
    return StoryScores(
        np.array(nats) / math.log(2),
        np.array(bits),
        np.array(n_bytes, np.int64),
        np.array(n_tokens, np.int64),
    )


def gap(scores: StoryScores) -> dict[str, Any]:
    """Bits per byte of both and their difference; its error is over stories, which are paired.

    The number of stories depends on their bytes alone, up to the last one drawn, so by Wald's
    identity the sums are in the proportion of the means of one story: no story is cut or left out.
    """
    n_bytes = scores.n_bytes.sum()
    model, source = scores.model_bits.sum() / n_bytes, scores.source_bits.sum() / n_bytes
    _, error = ratio(scores.model_bits - scores.source_bits, scores.n_bytes)
    return {
        "bits_per_byte": round(float(model), 5),
        "source_bits_per_byte": round(float(source), 5),
        "gap": round(float(model - source), 5),
        "standard_error": None if error is None else round(error, 5),
        "gap_percent": round(float(100 * (model / source - 1)), 2),
        "stories": len(scores.n_bytes),
        "bytes": int(n_bytes),
        "tokens": int(scores.n_tokens.sum()),
    }
