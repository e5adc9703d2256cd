from pathlib import Path

from tinymemorylm.report.reliability import draw_reliability


def test_the_picture_has_a_line_for_each_text(tmp_path: Path):
    bins = [
        {"tokens": 90, "accuracy": 0.1, "confidence": 0.2},
        {"tokens": 10, "accuracy": 0.9, "confidence": 0.8},
    ]
    row = {"path": "a.txt", "expected_calibration_error": 0.1, "tokens": 100, "bins": bins}
    one, two = tmp_path / "new" / "one.png", tmp_path / "new" / "two.png"
    draw_reliability([row], one)
    draw_reliability([row, {**row, "path": "b.txt"}], two)
    assert one.read_bytes().startswith(b"\x89PNG") and one.read_bytes() != two.read_bytes()
