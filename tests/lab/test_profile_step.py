"""What `benchmarks/profile_step.py` finds in a step adds up."""

from pathlib import Path

import pytest

import profile_step
from tinymemorylm.config import preset
from tinymemorylm.lab.throughput import training_flops_per_token


@pytest.mark.parametrize("name", ["haiku", "haiku-literal"])
def test_flops_by_shape_are_those_counted_and_parts_add_up(name: str, tmp_path: Path, monkeypatch):
    monkeypatch.setattr(profile_step, "TOKENS", 128)
    step = profile_step.Step(preset(name), 64, tmp_path)
    found = profile_step.profiled(step, 1)
    counted = training_flops_per_token(preset(name), 64) * 128
    assert sum(found.flops.values()) == pytest.approx(counted, rel=0.01)
    assert sum(found.seconds.values()) == pytest.approx(found.total)
    assert found.seconds.keys() <= profile_step.PARTS.keys()
