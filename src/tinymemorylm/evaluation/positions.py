"""Bits per byte by position: whether a model gains from what stands further back.

In: a model and documents. Out: for each range of positions in the context, bits per byte of the
tokens that stand there, with their standard error over windows.
"""

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tinymemorylm.evaluation.scoring import Scorer, Window

EDGES = (0, 256, 512, 1024, 2048)


def full_windows(ids: Sequence[int], bos_id: int, size: int) -> Iterator[Window]:
    """Windows of `size` tokens side by side, each read from <bos> or the token before it.

    What is left at the end of a document is not scored, so that every position has as many tokens.
    """
    for start in range(0, len(ids) - size + 1, size):
        before = bos_id if start == 0 else ids[start - 1]
        yield Window([before, *ids[start : start + size]], size)


def by_position(
    scorer: Scorer, documents: Iterable[str], edges: Sequence[int] = EDGES
) -> list[dict[str, Any]]:
    """A row for each range of positions within the context; none where no document fills one.

    Position 0 has one token before it. Source texts differ between the ranges: standard errors
    say how much of a difference that may be.
    """
    size = scorer.context_length
    byte_lengths = scorer.tokenizer.byte_lengths.astype(np.int64)
    cut: list[list[int]] = []  # tokens of each window, appended as they are handed out

    def handed_out() -> Iterator[Window]:
        for text in documents:
            for window in full_windows(
                scorer.tokenizer.encode(text), scorer.tokenizer.bos_id, size
            ):
                cut.append(window.tokens[1:])
                yield window

    nats = [nll.numpy() for nll in scorer.nll(handed_out())]
    if not nats:
        return []
    bits = np.stack(nats) / math.log(2)  # (windows, size)
    n_bytes = byte_lengths[np.array(cut)]
    rows = []
    limits = [edge for edge in edges if edge < size] + [size]
    for low, high in pairwise(limits):
        of_window = bits[:, low:high].sum(1), n_bytes[:, low:high].sum(1)
        mean, error = ratio(*of_window)
        rows.append(
            {
                "from": low,
                "to": high,
                "bits_per_byte": round(mean, 5),
                "standard_error": None if error is None else round(error, 5),
                "bytes": int(of_window[1].sum()),
                "tokens": bits.shape[0] * (high - low),
            }
        )
    return rows


def ratio(parts: np.ndarray, wholes: np.ndarray) -> tuple[float, float | None]:
    """sum(parts) / sum(wholes), and its standard error over independent pairs (None of one)."""
    mean = parts.sum() / wholes.sum()
    n = len(parts)
    if n < 2:
        return float(mean), None
    spread = ((parts - mean * wholes) ** 2).sum() * n / (n - 1)
    return float(mean), float(np.sqrt(spread) / wholes.sum())
