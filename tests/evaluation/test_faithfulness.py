from collections import Counter
from itertools import islice

import pytest

from tinymemorylm.corpus.storyworld.conversations import chats
from tinymemorylm.evaluation.faithfulness import (
    KINDS,
    OUTCOMES,
    PER_KIND,
    Question,
    faithfulness,
    judge,
    questions,
)
from tinymemorylm.evaluation.statistics import wilson

GRAMMARS = dict(chats())
LOST = "One day, Mia lost a red bell. Oscar found it under the bed. Noor liked riding. "
RACE = "Mia ran faster than Noor, and Noor ran faster than Tom. "
MOVED = (
    "Mia put a red bell on the chair. Noor put it on the table. Tom put it on the stove. "
    "Is the bell on the chair?"
)


def about(kind: str, message: str, expected: str) -> Question:
    return Question("a few sentences", GRAMMARS[kind], message, expected)


@pytest.fixture(scope="module")
def asked() -> list[Question]:
    return list(questions())


def test_as_many_questions_of_each_kind_about_tellings_of_each_length(asked: list[Question]):
    wanted = {(t, k): PER_KIND for t in ("a few sentences", "a whole story") for k in KINDS}
    assert Counter((q.telling, q.kind) for q in asked) == wanted
    assert asked[:20] == list(islice(questions(), 20)) != list(islice(questions(seed=1), 20))
    for question in asked:
        assert question.message == question.story + question.asked
        assert question.asked.endswith("?") and len(question.asked.split()) < 12
        assert question.story.strip()[-1] in '.!?"'


def test_the_grammars_own_answer_is_right(asked: list[Question]):
    assert {judge(question, question.expected) for question in asked} == {"right"}


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("Oscar found it.", "right"),
        ("Oscar found the bell.", "right"),
        ("Oscar.", "right"),
        ("It was Oscar!", "right"),
        ("Oscar found the red bell.", "right"),
        ("The red bell was found by Oscar.", "invents"),  # in words of its own
        ("Mia found it.", "contradicts"),
        ("Oscar lost it.", "contradicts"),
        ("Oscar found the bed.", "contradicts"),
        ("Mia found Oscar.", "contradicts"),
        ("It was under the bed.", "contradicts"),
        ("Olga found it.", "invents"),
        ("Oscars found it.", "invents"),
        ("Oscar found the golden bell.", "invents"),
        ("The story does not say.", "no answer"),
        ("We cannot know that.", "no answer"),
        ("", "no answer"),
        ("...", "no answer"),
    ],
)
def test_answers_to_who(answer: str, outcome: str):
    question = about("losing", LOST + "Who found the bell?", "Oscar found it.")
    assert question.kind == "who"
    assert judge(question, answer) == outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("The story does not say.", "right"),
        ("I don't know.", "right"),
        ("Mia made the bell.", "invents"),
        ("Olga made it.", "invents"),
        ("", "no answer"),
    ],
)
def test_what_the_story_does_not_say(answer: str, outcome: str):
    question = about("losing", LOST + "Who made the bell?", "We cannot know that from the story.")
    assert question.kind == "not told"
    assert judge(question, answer) == outcome


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ("No, Mia was faster than Tom.", "right"),
        ("No.", "right"),
        ("Yes.", "contradicts"),
        ("Yes, Tom was faster than Mia.", "contradicts"),
        ("No, Tom was faster than Mia.", "contradicts"),
        ("No, Mia was faster than Noor.", "contradicts"),
        ("No, Mia was faster than Olga.", "invents"),
    ],
)
def test_answers_of_yes_or_no(answer: str, outcome: str):
    asked = RACE + "Was Tom faster than Mia?"
    question = about("racing", asked, "No, Mia was faster than Tom.")
    assert question.kind == "yes or no"
    assert judge(question, answer) == outcome


def test_words_of_the_question_and_true_descriptions_may_be_said_again():
    message = "Mia wanted a red bell, and Noor a blue fan. What did Mia want?"
    question = about("wanting", message, "Mia wanted a bell.")
    assert judge(question, "Mia wanted a red bell.") == "right"
    assert judge(question, "Mia wanted a blue bell.") == "contradicts"
    assert judge(question, "Mia wanted a golden bell.") == "invents"
    assert judge(question, "Noor wanted a red bell.") == "contradicts"


def test_the_last_of_three_places_is_right():
    question = about("passing", MOVED, "No, it is on the stove.")
    assert judge(question, "No, it is on the table.") == "contradicts"
    assert judge(question, "No, it is on the shelf.") == "invents"
    assert judge(question, "No, it is on the stove.") == "right"


def test_shares_are_of_what_was_answered(asked: list[Question]):
    expected = {question.message: question.expected for question in asked}
    kinds = {question.message: question.kind for question in asked}
    rows = faithfulness(asked, lambda m: expected[m] if kinds[m] != "where" else "On the xx.")
    by_name = {row["questions"]: row for row in rows}
    assert list(by_name) == ["all", "a few sentences", "a whole story", *KINDS]
    n = 2 * PER_KIND
    for name in KINDS:
        row = by_name[name]
        assert row["n"] == n
        assert row["right"] == (name != "where") and row["invents"] == (name == "where")
        assert row["right_low"] == round(wilson(n * row["right"], n)[0], 4)
    assert by_name["all"]["right"] == 0.8 and by_name["all"]["n"] == 10 * PER_KIND
    for row in rows:
        assert sum(row[o.replace(" ", "_")] for o in OUTCOMES) == pytest.approx(1)
