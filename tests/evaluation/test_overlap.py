from tinymemorylm.evaluation.overlap import overlap, runs

WORDS = [f"w{i}" for i in range(40)]


def test_runs_ignore_case_and_punctuation():
    assert runs("One, two -- THREE four", 3) == runs("one two three. Four!", 3)
    assert len(runs("one two three four", 3)) == 2
    assert runs("one two", 3) == set()


def test_overlap_counts_runs_of_thirteen_words():
    text = " ".join(WORDS)  # 28 runs
    copied, fresh = " ".join(WORDS[10:30]), " ".join(reversed(WORDS))  # 8 of them; none
    rows = overlap({"a": [text], "b": ["nothing here"]}, [fresh, "x " + copied + " y"])
    assert rows == [
        {"path": "a", "runs": 28, "shared": 8, "share": round(8 / 28, 6)},
        {"path": "b", "runs": 0, "shared": 0, "share": 0.0},
    ]
