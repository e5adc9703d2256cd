from pathlib import Path

import pytest

from tinymemorylm import load
from tinymemorylm.evaluation import degeneration as module
from tinymemorylm.evaluation.degeneration import Sample, collapsed, degeneration, draw, panel
from tinymemorylm.evaluation.statistics import wilson
from tinymemorylm.evaluation.words import words
from tinymemorylm.language_model import MAX_NEW_TOKENS


def test_the_panel_is_varied_and_no_answer_holds_a_chat_prompt_by_chance():
    for kind in ("continuation", "chat"):
        prompts = panel(kind)
        assert len(set(prompts)) == len(prompts) == 25
    assert all(len(words(prompt)) >= 4 for prompt in panel("chat"))


def test_samples_are_what_generate_gives_with_their_seeds(finished_run: Path, monkeypatch):
    assert module.MAX_NEW_TOKENS == MAX_NEW_TOKENS
    monkeypatch.setattr(module, "MAX_NEW_TOKENS", 20)
    lm = load(finished_run)
    for kind in ("continuation", "chat"):
        samples = draw(lm.model, lm.tokenizer, lm.log_boost, kind, 27, 0.7)
        assert [s.prompt for s in samples] == [*panel(kind), *panel(kind)[:2]]
        for seed in (0, 26):
            text = samples[seed].prompt
            prompt = text if kind == "continuation" else [{"role": "user", "content": text}]
            done = lm.generate(prompt, seed=seed, max_new_tokens=20)
            assert (samples[seed].text, samples[seed].ids) == (done.text, done.token_ids)
            assert (samples[seed].ended_by is None) == (done.finish_reason == "length")


@pytest.mark.parametrize(
    ("text", "ended_by", "broken"),
    [
        ("A river is long water.", "<eos>", False),
        ("A river is long and", None, False),
        ("The user: a person who asks.", "<eos>", False),
        (" \n", "<eos>", True),
        ("Well... what IS a river?", "<eos>", True),
        ("Long water.\nUser: And a lake?", "<eos>", True),
        ("Long water. <|user|> And a lake?", "<eos>", True),
        ("Long water.", "<|user|>", True),
    ],
)
def test_answers_that_break_the_format_of_a_chat(text: str, ended_by: str | None, broken: bool):
    assert collapsed(Sample("What is a river?", [], text, ended_by)) is broken


def test_rows_hold_each_measure_with_its_interval():
    samples = [
        Sample("Tell me of Zibby now", [*range(30)], "Zibby ran. The dog ran.", "<eos>"),
        Sample("Tell me more of it", [5] * 40, "the dog the dog the dog the flurb", None),
    ]
    known = {"the", "dog", "ran"}
    rows = {row["measure"]: row for row in degeneration(samples, known, chat=True)}
    assert {name: row["value"] for name, row in rows.items()} == {
        "repeated_4grams": round(2 / 7, 5),  # of 2 and 5
        "ends_in_loop": 0.5,
        "distinct_1": round(5 / 13, 5),
        "distinct_2": round(6 / 11, 5),
        "distinct_3": round(6 / 9, 5),
        "invented_words": round(1 / 13, 5),
        "never_stops": 0.5,
        "format_collapse": 0,
    }
    assert all(row["n"] == 2 for row in rows.values())
    loops = rows["ends_in_loop"]
    assert (loops["low"], loops["high"]) == pytest.approx(wilson(1, 2), abs=1e-5)
    assert (rows["invented_words"]["low"], rows["invented_words"]["high"]) == (0, 0.125)
    assert rows["distinct_1"]["low"] is None
    assert "format_collapse" not in str(degeneration(samples, known, chat=False))
