"""Calibration: whether the next token is right as often as the model is sure of it.

In: a model and documents. Out: accuracy and mean confidence of the likeliest token, and the
expected calibration error over bins of confidence.
"""

from collections.abc import Iterable
from typing import Any

import numpy as np

from tinymemorylm.evaluation.bits_per_byte import documents_windows
from tinymemorylm.evaluation.scoring import Scorer

N_BINS = 15


def calibration(scorer: Scorer, documents: Iterable[str]) -> dict[str, Any]:
    """Figures over every token of the documents, in the windows of `bits_per_byte`.

    expected_calibration_error: the mean over tokens of |accuracy - mean confidence| of their bin,
    bins of equal width (Guo et al. 2017, equation 3). bins: those that hold tokens.
    """
    encoded = (scorer.tokenizer.encode(text) for text in documents)
    tokens, hits, confidence = np.zeros((3, N_BINS))
    for sure, hit in scorer.confidences(documents_windows(scorer, encoded)):
        p = sure.numpy()
        bins = np.minimum((p * N_BINS).astype(int), N_BINS - 1)
        tokens += np.bincount(bins, minlength=N_BINS)
        hits += np.bincount(bins, hit.numpy(), N_BINS)
        confidence += np.bincount(bins, p, N_BINS)
    n = max(1.0, tokens.sum())
    return {
        "expected_calibration_error": round(float(abs(hits - confidence).sum() / n), 5),
        "accuracy": round(float(hits.sum() / n), 5),
        "confidence": round(float(confidence.sum() / n), 5),
        "tokens": int(tokens.sum()),
        "bins": [
            {
                "from": round(i / N_BINS, 5),
                "to": round((i + 1) / N_BINS, 5),
                "tokens": int(tokens[i]),
                "accuracy": round(float(hits[i] / tokens[i]), 5),
                "confidence": round(float(confidence[i] / tokens[i]), 5),
            }
            for i in np.flatnonzero(tokens)
        ],
    }
