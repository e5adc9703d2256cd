import pytest

from tinymemorylm.progress import Progress


def test_time_left_of_a_resumed_run_counts_only_what_this_process_did(
    capsys: pytest.CaptureFixture[str],
):
    times = iter([0.0, 1.0, 11.0, 21.0])
    progress = Progress("training", 100, clock=lambda: next(times))
    for done in (80, 82, 84):  # 5 seconds each
        progress.update(done)
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("ETA ")[1] for line in lines] == ["1:30", "1:20"]
