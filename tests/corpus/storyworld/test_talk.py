"""Conversations are right, plain, and say every choice that made them."""

import math
import re
from collections import defaultdict
from functools import cache

from talk_reading import SLOT, exchanges, readings, tables_of

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.talk import (
    NUMBERS,
    SHAPES,
    Exchange,
    Row,
    Topic,
    load_book,
    lowered,
    talk,
)

TALKS = 400


@cache
def conversations() -> list[tuple[list[tuple[str, str]], float]]:
    made = []
    for seed in range(TALKS):
        choices = Choices(f"talk-{seed}")
        made.append((talk(choices), choices.bits))
    return made


def test_the_choices_can_be_read_back_from_the_text_with_their_exact_bits():
    for turns, bits in conversations()[:250]:
        found = readings(turns)
        assert len(found) == 1, (turns, found)
        assert math.isclose(found[0], bits, abs_tol=1e-6), turns


def test_a_question_belongs_to_one_wording_unless_it_asks_for_what_was_told():
    owners = defaultdict(set)
    for topic in load_book().topics:
        for exchange in exchanges(topic):
            asked_again = exchange.recall or topic.kind == "lone"
            for ask in (ask for wordings in exchange.ask for ask in wordings):
                for slots in some_slots(topic, exchange):
                    for text in (ask.format_map(slots), lowered(ask).format_map(slots)):
                        owners[text].add("told" if asked_again else (topic.name, ask))
    assert not {text: names for text, names in owners.items() if len(names) > 1}


def some_slots(topic: Topic, exchange: Exchange) -> list[dict[str, Row]]:
    """Fillings of an exchange's slots: every row of each table is in one at least."""
    drawn = {s: load_book().tables[t] for s, t in tables_of(topic, exchange).items()}
    count = max(map(len, drawn.values()), default=1)
    return [
        {slot: table[(i + k) % len(table)] for k, (slot, table) in enumerate(drawn.items())}
        for i in range(count)
    ]


def test_every_drawn_row_is_named_in_the_question_or_in_all_answers():
    def names_the_row(template: str, slot: str, table: str) -> bool:
        fields = [field for name, field in SLOT.findall(template) if name == slot]
        rows = load_book().tables[table]
        return len({tuple(row[field] for field in fields) for row in rows}) == len(rows)

    for topic in load_book().topics:
        for exchange in exchanges(topic):
            for slot, table in exchange.draw:
                assert any(
                    all(names_the_row(t, slot, table) for wordings in side for t in wordings)
                    for side in (exchange.ask, exchange.say)
                ), (topic.name, slot)


def test_wordings_of_one_exchange_differ_and_haste_always_shows():
    for topic in load_book().topics:
        for exchange in exchanges(topic):
            for side in (exchange.ask, exchange.say):
                templates = [template for wordings in side for template in wordings]
                assert len(set(templates)) == len(templates), topic.name
                for template in templates:
                    assert not re.search(r"\s\s|^\s|\s$|\s[,.!:]", template), template
            for ask in (ask for wordings in exchange.ask for ask in wordings):
                assert lowered(ask) != ask
    names = [topic.name for topic in load_book().topics]
    assert len(set(names)) == len(names) >= 80


def test_turns_alternate_and_are_short_plain_ascii():
    for turns, _ in conversations():
        assert [role for role, _ in turns] == ["user", "assistant"] * (len(turns) // 2)
        assert 1 <= len(turns) // 2 <= 4
        for role, content in turns:
            assert re.fullmatch(r"[A-Za-z0-9 ,.!?:'+=-]+", content), content
            assert not re.search(r"\s\s|^\s|\s$|\s[,.!:]", content), content
            assert 1 <= len(content.split()) <= (20 if role == "user" else 30), content


def test_sentences_of_the_model_begin_with_a_capital_and_end_with_a_mark():
    for topic in load_book().topics:
        for exchange in exchanges(topic):
            for slots in some_slots(topic, exchange)[:20]:
                for say in (say for wordings in exchange.say for say in wordings):
                    answer = say.format_map(slots)
                    assert re.match(r"[A-Z0-9]", answer), answer
                    assert answer[-1] in ".!?", answer
                    assert len(answer.split()) <= 30, answer


def test_almost_half_of_the_conversations_have_several_exchanges():
    several = sum(weight for shape, weight in SHAPES if len(shape) > 1)
    assert 0.4 < several / sum(weight for _, weight in SHAPES) < 0.5


def test_numbers_are_right():
    tables = load_book().tables
    assert all(int(r["a"]) + int(r["b"]) == int(r["c"]) for r in tables["sum"])
    assert all(int(r["a"]) - int(r["b"]) == int(r["c"]) for r in tables["take"])
    assert all(NUMBERS.index(r["aw"]) == int(r["a"]) for r in tables["sum"])
    assert all(r["letters"].replace("-", "") == r["word"] for r in tables["spelling"])
    assert {r["list"] for r in tables["count"]} >= {"1, 2", "1, 2, 3, 4, 5, 6, 7, 8, 9, 10"}


def test_days_months_and_seasons_come_round():
    for name in ("day", "month", "season"):
        rows = load_book().tables[name]
        following = {row[name]: row["next"] for row in rows}
        assert [following[row["before"]] for row in rows] == [row[name] for row in rows]
        assert [row["next"] for row in rows] == [row[name] for row in (*rows[1:], rows[0])]


def test_the_same_seed_gives_the_same_conversation():
    assert talk(Choices("once")) == talk(Choices("once"))
