from pathlib import Path

from tinymemorylm.report.race import draw_race


def test_both_sides_of_every_repeat_are_drawn(tmp_path: Path):
    points = [{"seconds": 1.0, "bits_per_byte": 4.0}, {"seconds": 2.0, "bits_per_byte": 3.0}]
    rows = [
        {"side": side, "minutes": minutes, "points": points}
        for side in ("ours", "plain GPT")
        for minutes in (10, 30)
    ]
    draw_race({"settings": {"track": "books"}, "target": 2.5, "rows": rows}, tmp_path / "race.png")
    assert (tmp_path / "race.png").read_bytes().startswith(b"\x89PNG")
