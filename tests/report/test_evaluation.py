from tinymemorylm.report.evaluation import PARTS, merged, sections, table

ROW = {"path": "a|b.txt", "weights": "model", "bits_per_byte": 1.5, "bytes": 1234}


def test_a_part_is_a_heading_a_table_and_its_note():
    heading, rows, note = sections({"texts": [ROW], "positions": []})
    assert heading == "### Bits per byte"
    assert rows.splitlines()[2] == r"| a\|b.txt | model | 1.5000 | 1,234 |  |"
    assert note == PARTS["texts"].note


def test_every_part_shows_rows_of_its_keys():
    for part in PARTS.values():
        row = {
            key: "x" if form == "" else 0.5 if "." in form else 7 for _, key, form in part.columns
        }
        assert len(table(part, [row]).splitlines()) == 3


def test_what_is_measured_again_is_replaced():
    other = {**ROW, "weights": "pretrain"}
    now = {"texts": [{**ROW, "bits_per_byte": 1.0}], "overlap": [{"path": "c"}]}
    assert merged({"texts": [ROW, other]}, now) == {
        "texts": [other, now["texts"][0]],
        "overlap": [{"path": "c"}],
    }


def test_a_picture_is_shown_where_it_was_drawn():
    found = {"recall": [{"distance": 0, "weights": "model", "accuracy": 1.0}]}
    assert sections(found, pictures={"recall.png"})[-1] == "![Recall by distance](recall.png)"
    assert not any("![" in block for block in sections(found))
