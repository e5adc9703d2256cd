"""Reads everyday talk back into the choices that made it, without the code that makes it."""

import math
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tinymemorylm.corpus.storyworld.talk import (
    CASUAL,
    SHAPES,
    Exchange,
    Row,
    Topic,
    load_book,
    lowered,
    remaining,
)

SLOT = re.compile(r"\{(\w+)\[(\w+)\]\}")


@dataclass(frozen=True)
class Reading:
    """One way to read an exchange: which one it is, what filled its slots, and its cost."""

    topic: Topic
    exchange: Exchange
    casual: bool
    slots: dict[str, Row]
    bits: float


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
