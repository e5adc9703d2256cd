"""Drills in copying: made-up words said again, letter by letter.

In: a generator and a width. Out: a training row with nothing to learn but to repeat. They keep
`model.start.copying_heads` in use until the text itself rewards copying.
"""

import string

import numpy as np

from tinymemorylm.packing import Ids
from tinymemorylm.tokenizer import Tokenizer

WORDS = (1, 8)
LETTERS = (2, 8)
TIMES = (2, 4)
"""Words per drill, letters per word after the capital, sayings: from the first, below the last."""


class Drills:
    """Rows of drills, each drill a document of its own; functions of (seed, index)."""

    def __init__(self, tokenizer: Tokenizer, share: float, seed: int) -> None:
        self.bos_id, self.share, self.seed = tokenizer.bos_id, share, seed
        self._capitals = np.array(_ids(tokenizer, string.ascii_uppercase))
        self._letters = np.array(_ids(tokenizer, string.ascii_lowercase))
        self._space = _ids(tokenizer, " ")[0]

    def take(self, index: int) -> bool:
        """Whether row `index` of the training data is a drill: a `share` of all are."""
        return np.random.default_rng([self.seed, 5, index]).random() < self.share

    def row(self, index: int, width: int) -> tuple[Ids, Ids, np.ndarray]:
        """tokens, segments and is_target, (width,) each; what is said first is no target."""
        rng = np.random.default_rng([self.seed, 4, index])
        tokens = np.empty(width, np.int64)
        segments, is_target = np.empty(width, np.int64), np.ones(width, np.bool_)
        used = segment = 0
        while used < width:
            said = np.concatenate([self._word(rng) for _ in range(rng.integers(*WORDS))])
            drill = np.concatenate(([self.bos_id], np.tile(said, rng.integers(*TIMES))))
            stop = min(used + len(drill), width)
            tokens[used:stop] = drill[: stop - used]
            segments[used:stop] = segment
            is_target[used : used + 1 + len(said)] = False
            used, segment = stop, segment + 1
        return tokens, segments, is_target

    def _word(self, rng: np.random.Generator) -> Ids:
        letters = rng.choice(self._letters, rng.integers(*LETTERS))
        return np.concatenate(([self._space, rng.choice(self._capitals)], letters))


def _ids(tokenizer: Tokenizer, characters: str) -> list[int]:
    """The token of each."""
    return [tokenizer.encode(c)[0] for c in characters]
