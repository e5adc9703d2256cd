"""Everyday conversation with Haiku, a friendly model that knows it is very small.

In: `Choices`. Out: (role, content) pairs. The topics, phrasings and words are data, in the
`talk*.toml` files beside this one; every choice made here can be read back from the text.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from itertools import product
from typing import Any

from .choices import Choices
from .names import strange_names

# A shape lists the parts of a conversation. "body" is any topic to talk about; "first" one that
# has follow-ups and "then" one of those; "told" one whose facts can be asked for again, even
# after an "aside" that tells nothing, and "recall" that question; "lone" topics are true only
# while nothing has been told yet ("What is my name?").
SHAPES: tuple[tuple[tuple[str, ...], float], ...] = (
    (("body",), 46),
    (("lone",), 3),
    (("open",), 3),
    (("close",), 2),
    (("open", "body"), 7),
    (("body", "close"), 7),
    (("body", "body"), 6),
    (("first", "then"), 9),
    (("open", "lone"), 1),
    (("open", "body", "close"), 4),
    (("first", "then", "close"), 3),
    (("told", "aside", "recall"), 3),
    (("open", "first", "then"), 2),
    (("open", "body", "body", "close"), 1),
    (("open", "first", "then", "close"), 2),
    (("told", "aside", "recall", "close"), 1),
)
N_STRANGE = 300
"""Strange names in talk, beside 70 ordinary ones."""
CASUAL = ((False, 0.88), (True, 0.12))

# fmt: off
NUMBERS = (
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten",
    "eleven", "twelve", "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen",
    "nineteen", "twenty",
)
# fmt: on

Row = dict[str, str]
Table = tuple[Row, ...]


@dataclass(frozen=True)
class Exchange:
    """One question and its answers. A template is the tuple of its wordings."""

    ask: tuple[tuple[str, ...], ...]
    say: tuple[tuple[str, ...], ...]
    draw: tuple[tuple[str, str], ...]  # (slot, table) pairs, drawn without replacement
    recall: bool  # a follow-up that still makes sense after talk of something else


@dataclass(frozen=True)
class Topic:
    """Something to talk about: an exchange, and the follow-ups that share its slots."""

    name: str
    kind: str
    weight: float
    exchange: Exchange
    then: tuple[Exchange, ...]

    def plays(self, part: str) -> bool:
        """Whether this topic may take the part `part` of a shape."""
        match part:
            case "first":
                return bool(self.then)
            case "told":
                return any(follow.recall for follow in self.then)
            case "aside":
                return self.kind == "body" and not self.then
            case _:
                return self.kind == part


@dataclass(frozen=True)
class Book:
    """All topics and the tables their slots are drawn from."""

    topics: tuple[Topic, ...]
    tables: dict[str, Table]


def talk(choices: Choices) -> list[tuple[str, str]]:
    """One conversation of 1 to 4 exchanges, as ("user" | "assistant", content) pairs."""
    book = load_book()
    casual = choices.weighted(CASUAL)
    turns: list[tuple[str, str]] = []
    left = list(book.topics)
    follow_ups: tuple[Exchange, ...] = ()
    told: dict[str, Row] = {}
    for part in choices.weighted(SHAPES):
        if part in ("then", "recall"):
            exchange = choices.pick([f for f in follow_ups if f.recall or part == "then"])
            turns += speak(choices, exchange, told, book.tables, casual)
            continue
        topic = choices.weighted([(t, t.weight) for t in left if t.plays(part)])
        left.remove(topic)
        slots: dict[str, Row] = {}
        turns += speak(choices, topic.exchange, slots, book.tables, casual)
        if part in ("first", "told"):
            follow_ups, told = topic.then, slots
    return turns


def speak(
    choices: Choices,
    exchange: Exchange,
    slots: dict[str, Row],
    tables: dict[str, Table],
    casual: bool,
) -> list[tuple[str, str]]:
    """The two turns of one exchange; the rows it draws are added to `slots`."""
    ask = choices.pick(choices.pick(exchange.ask))
    for slot, table in exchange.draw:
        slots[slot] = choices.pick(remaining(tables[table], slots))
    say = choices.pick(choices.pick(exchange.say))
    question = (lowered(ask) if casual else ask).format_map(slots)
    return [("user", question), ("assistant", say.format_map(slots))]


def remaining(table: Table, slots: dict[str, Row]) -> list[Row]:
    """The rows of `table` that no slot holds yet."""
    return [row for row in table if row not in slots.values()]


def lowered(template: str) -> str:
    """`template` as typed in haste: no capitals but those in slots, and no final mark."""
    return template.lower().rstrip(".?!")


def wordings(template: str) -> tuple[str, ...]:
    """Every wording of a template: "(Hi|Hello) there" is "Hi there" and "Hello there".

    An empty choice takes the space before it along: "a (good|) joke" is also "a joke".
    """
    parts = re.split(r"\(([^()]*)\)", template)
    joined = ("".join(words) for words in product(*(part.split("|") for part in parts)))
    return tuple(re.sub(r" ([ ,.?!])", r"\1", text) for text in joined)


@cache
def load_book() -> Book:
    """The topics and tables of all `talk*.toml` files, in order of file name."""
    files = [
        f
        for f in resources.files(__name__.rpartition(".")[0]).iterdir()
        if f.name.startswith("talk")
    ]
    files = sorted((f for f in files if f.name.endswith(".toml")), key=lambda f: f.name)
    data = [tomllib.loads(f.read_text(encoding="utf-8")) for f in files]
    tables = number_tables()
    for table in (item for part in data for item in part.get("table", {}).items()):
        name, (fields, *rows) = table
        tables[name] = rows_of(fields, rows)
    tables["name"] += rows_of(["name"], [[name] for name, _ in strange_names()[:N_STRANGE]])
    tables["any_animal"] = tuple(
        {key: row[key] for key in tables["quiet_animal"][0]}
        for name in ("animal", "quiet_animal")
        for row in tables[name]
    )
    tables["spelling"] = rows_of(
        ("word", "letters", "count"),
        [(r["word"], "-".join(r["word"]), NUMBERS[len(r["word"])]) for r in tables["short_word"]],
    )
    return Book(tuple(_topic(item) for part in data for item in part.get("topic", ())), tables)


def _topic(item: dict[str, Any]) -> Topic:
    then = tuple(_exchange(follow) for follow in item.get("then", ()))
    kind = item.get("kind", "body")
    return Topic(item["name"], kind, item.get("weight", 1.0), _exchange(item), then)


def _exchange(item: dict[str, Any]) -> Exchange:
    return Exchange(
        tuple(wordings(template) for template in item["ask"]),
        tuple(wordings(template) for template in item["say"]),
        tuple(item.get("draw", {}).items()),
        item.get("recall", False),
    )


def rows_of(fields: Sequence[str], rows: Sequence[Sequence[str]]) -> Table:
    """Rows as dicts; field "Word" is field "word" with a capital first letter."""
    capital = [[value[:1].upper() + value[1:] for value in row] for row in rows]
    names = [*fields, *(field.capitalize() for field in fields)]
    return tuple(
        dict(zip(names, [*row, *upper], strict=True))
        for row, upper in zip(rows, capital, strict=True)
    )


def number_tables() -> dict[str, Table]:
    """Sums, counts and comparisons; plain fields are digits, those ending in "w" are words."""
    sums = [(a, b, a + b) for a in range(1, 10) for b in range(1, 10)]
    takes = [(a, b, a - b) for a in range(2, 11) for b in range(1, a)]
    pairs = [(a, b, max(a, b), min(a, b)) for a in range(1, 21) for b in range(1, 21) if a != b]
    steps = [(n, n + 1) for n in range(20)]
    spans = [(a, b) for a in range(2, 9) for b in range(a + 2, 11)]
    return {
        "sum": _numbers("a b c", sums),
        "take": _numbers("a b c", takes),
        "two_numbers": _numbers("a b big small", pairs),
        "step": _numbers("n next", steps),
        "count": _counts([(1, n) for n in range(2, 11)]),
        "count_down": _counts([(n, 1) for n in range(3, 11)]),
        "span": _counts(spans),
        "age": _numbers("next later", [(n, n + 1) for n in range(4, 16)]),
    }


def _numbers(fields: str, rows: Sequence[Sequence[int]]) -> Table:
    names = [name + end for name in fields.split() for end in ("", "w")]
    return rows_of(names, [[text for n in row for text in (str(n), NUMBERS[n])] for row in rows])


def _counts(spans: Sequence[tuple[int, int]]) -> Table:
    rows: list[list[str]] = []
    for a, b in spans:
        run = range(a, b + 1) if a < b else range(a, b - 1, -1)
        listed = [", ".join(map(str, run)), ", ".join(NUMBERS[n] for n in run)]
        rows.append([str(a), NUMBERS[a], str(b), NUMBERS[b], *listed])
    return rows_of(("a", "aw", "b", "bw", "list", "listw"), rows)
