"""Long runs stay as small as they were."""

import json
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_memory_grows_under_a_hundredth_over_20_000_steps():
    harness = Path(__file__).parents[2] / "benchmarks" / "long_run.py"
    done = subprocess.run([sys.executable, str(harness)], capture_output=True, text=True)
    phases = json.loads(done.stdout)["phases"]
    assert sum(phase["steps"] for phase in phases.values()) == 20_000
    assert all(phase["growth"] < 0.01 for phase in phases.values()), phases
