"""Refactoring leaves 30 pinned losses as they are, to the bit; other machines come close."""

import math

import pin_losses
from tinymemorylm.files import read_json


def test_the_pinned_run_has_the_losses_it_had():
    pins = read_json(pin_losses.PINS)["pins"]
    losses = pin_losses.pinned_run()
    assert len(losses) == 30 and all(map(math.isfinite, losses))
    if own := pin_losses.own_pin(pins):
        assert losses == own["losses"], "numerics changed: see benchmarks/pin_losses.py"
    else:
        assert pin_losses.furthest(losses, pins[0]["losses"]) <= pin_losses.TOLERANCE
