"""Conversations are right, plain, and say every choice that made them."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.talk import (
    CASUAL,
    NUMBERS,
    SHAPES,
    Exchange,
    Row,
    Topic,
    load_book,
    lowered,
    remaining,
    talk,
)

SLOT = re.compile(r"\{(\w+)\[(\w+)\]\}")
TALKS = 400


@dataclass(frozen=True)
class Reading:
    """One way to read an exchange: which one it is, what filled its slots, and its cost."""

    topic: Topic
    exchange: Exchange
    casual: bool
    slots: dict[str, Row]
    bits: float


@cache
def conversations() -> list[tuple[list[tuple[str, str]], float]]:
    made = []
    for seed in range(TALKS):
        choices = Choices(f"talk-{seed}")
        made.append((talk(choices), choices.bits))
    return made


def exchanges(topic: Topic) -> tuple[Exchange, ...]:
    return (topic.exchange, *topic.then)


def tables_of(topic: Topic, exchange: Exchange) -> dict[str, str]:
    return dict(topic.exchange.draw) | dict(exchange.draw)


@cache
def pattern(template: str, tables: tuple[tuple[str, str], ...]) -> re.Pattern[str]:
    def group(slot: str, field: str) -> str:
        values = {row[field] for row in load_book().tables[dict(tables)[slot]]}
        if not any(" " in value for value in values):
            return r"(\S+?)"
        return "(" + "|".join(map(re.escape, values)) + ")"

    groups = [group(*found) for found in SLOT.findall(template)] + [""]
    pieces = SLOT.sub("\0", template).split("\0")
    return re.compile("".join(re.escape(p) + g for p, g in zip(pieces, groups, strict=True)))


@cache
def asks() -> tuple[dict[str, list], list]:
    """Every wording of every question: those without slots by their text, the others listed."""
    plain, slotted = defaultdict(list), []
    for topic in load_book().topics:
        for exchange in exchanges(topic):
            for wordings in exchange.ask:
                for ask in wordings:
                    for casual in (False, True):
                        template = lowered(ask) if casual else ask
                        bits = math.log2(len(exchange.ask)) + math.log2(len(wordings))
                        entry = (topic, exchange, casual, template, bits)
                        (slotted if SLOT.search(ask) else plain[template]).append(entry)
    return plain, slotted


def fills(
    template: str, text: str, tables: dict[str, str], slots: dict[str, Row]
) -> Iterator[dict[str, Row]]:
    """The slots that make `template` say `text`."""
    if not (match := pattern(template, tuple(tables.items())).fullmatch(text)):
        return
    seen: dict[str, dict[str, str]] = {}
    for (slot, field), value in zip(SLOT.findall(template), match.groups(), strict=True):
        if seen.setdefault(slot, {}).setdefault(field, value) != value:
            return
    ways = [slots]
    for slot, fields in seen.items():
        table = load_book().tables[tables[slot]]
        rows = [row for row in table if all(row[f] == value for f, value in fields.items())]
        ways = [w | {slot: r} for w in ways for r in rows if w.get(slot, r) == r]
    yield from ways


def read(user: str, assistant: str) -> Iterator[Reading]:
    plain, slotted = asks()
    for topic, exchange, casual, template, ask_bits in [*plain.get(user, ()), *slotted]:
        tables = tables_of(topic, exchange)
        for asked in fills(template, user, tables, {}):
            for wordings in exchange.say:
                for say in wordings:
                    for slots in fills(say, assistant, tables, asked):
                        say_bits = math.log2(len(exchange.say)) + math.log2(len(wordings))
                        yield Reading(topic, exchange, casual, slots, ask_bits + say_bits)


def log2_share(options: tuple | list, chosen: object) -> float:
    total = sum(weight for _, weight in options)
    return -math.log2(next(w for option, w in options if option == chosen) / total)


def draw_bits(exchange: Exchange, slots: dict[str, Row], told: dict[str, Row]) -> float | None:
    """What the rows of an exchange cost, or None if it could not have drawn them."""
    held, bits = dict(told), 0.0
    for slot, table in exchange.draw:
        left = remaining(load_book().tables[table], held)
        if slots.get(slot) not in left:
            return None
        held[slot] = slots[slot]
        bits += math.log2(len(left))
    return bits if all(held.get(slot) == row for slot, row in slots.items()) else None


def readings(turns: list[tuple[str, str]]) -> list[float]:
    """The bits of every sequence of choices that makes these turns."""
    texts = [content for _, content in turns]
    steps = [list(read(u, a)) for u, a in zip(texts[::2], texts[1::2], strict=True)]
    found = []
    for shape, _ in SHAPES:
        for casual, _ in CASUAL:
            if len(shape) == len(steps):
                start = log2_share(SHAPES, shape) + log2_share(CASUAL, casual)
                left = list(load_book().topics)
                found += walk(shape, casual, steps, left, (None, {}), start)
    return found


def walk(shape, casual, steps, left, told, bits) -> Iterator[float]:
    if not shape:
        yield bits
        return
    part = shape[0]
    follows = part in ("then", "recall")
    for reading in steps[0]:
        topic, exchange = reading.topic, reading.exchange
        if reading.casual != casual or follows != (exchange in topic.then):
            continue
        drawn = draw_bits(exchange, reading.slots, told[1] if follows else {})
        if drawn is None:
            continue
        cost = bits + reading.bits + drawn
        if follows:
            options = [f for f in topic.then if f.recall or part == "then"]
            if topic == told[0] and exchange in options:
                cost += math.log2(len(options))
                yield from walk(shape[1:], casual, steps[1:], left, told, cost)
        elif topic in left and topic.plays(part):
            cost += log2_share([(t.name, t.weight) for t in left if t.plays(part)], topic.name)
            rest = [t for t in left if t != topic]
            now = (topic, reading.slots) if part in ("first", "told") else told
            yield from walk(shape[1:], casual, steps[1:], rest, now, cost)


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
