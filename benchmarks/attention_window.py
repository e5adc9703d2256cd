"""Time per token of one local layer at growing lengths: it must stay flat.

Prints JSON. Lengths take turns, so that a noisy machine disturbs them alike; the ratio is
the median of the rounds'. Run: make bench
"""

import json
import statistics
import time

import torch

from tinymemorylm.config import preset
from tinymemorylm.model.attention import Attention, rotary_tables, window_masks

LENGTHS = (512, 2048, 8192)
TOKENS = 8192
ROUNDS = 9


def main() -> None:
    config = preset("haiku", context_length=max(LENGTHS))
    torch.manual_seed(0)
    layer = Attention(config)
    cos, sin = rotary_tables(config)
    window = config.sliding_window

    def microseconds(length: int) -> float:
        x = torch.randn(TOKENS // length, length, config.d_model, requires_grad=True)
        began = time.perf_counter()
        mask = window_masks(length, window, None, x.device) if length > window else None
        out = layer(x, cos[:length], sin[:length], mask=mask)
        out.sum().backward()
        return (time.perf_counter() - began) / TOKENS * 1e6

    for length in LENGTHS:
        microseconds(length)
    rounds = [{length: microseconds(length) for length in LENGTHS} for _ in range(ROUNDS)]
    report = {
        "layer": "attention, sliding window 512, forward and backward, mask included",
        "threads": torch.get_num_threads(),
        "microseconds_per_token": {
            str(length): round(statistics.median(r[length] for r in rounds), 2)
            for length in LENGTHS
        },
        "ratio_8192_to_2048": round(statistics.median(r[8192] / r[2048] for r in rounds), 3),
    }
    print(json.dumps(report, indent=2))


if __name__ == "__main__":
    main()
