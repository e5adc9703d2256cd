"""A small grammar language in which choosing and emitting go together.

In: rules and word lists (TOML data). Out: text, written left to right by `Telling`; every choice
shows in the text at once, so that a text gives back its choices (see `reading.py`).

The language, inside a rule (one alternative a line, all equally likely):
    [a|b|c]          one of these, nestable
    {thing}          a word from the list `thing`: chosen at the first mention, kept afterwards
    {thing2} {thingA}  other words of the list `thing`, all different; {A} {B} are names
    {*thing}         another word of the list, not kept
    {thing.place}    a field of the chosen entry, itself in this language, kept afterwards
    {a thing} {^thing}  with "a" or "an"; with a capital
    <rule> <rule A B>  a rule; in it @ stands for A and & for B
    <rule! A>        an alternative of the rule that this text has not used yet
    /  ~  =>         a new paragraph; a space or a new paragraph; the next speaker's turn
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from tinymemorylm.corpus.storyworld.choices import Choices

PARAGRAPH, TURN = "\n", "\n\n"
_TOKEN = re.compile(r"[\[\]|]|\{[^}]*\}|<[^>]*>|[^\[\]|{}<>]+")
_SLOT = re.compile(r"\{(a )?(\^)?(\*?\w+)(?:\.(\w+))?\}")
_VOWEL = re.compile("[aeiou]|honest|hour", re.IGNORECASE)
_RULE = re.compile(r"<(\w+)(!)?(?: (\w+))?(?: (\w+))?>")


@dataclass(frozen=True, slots=True)
class OneOf:
    options: tuple["Sequence", ...]


@dataclass(frozen=True, slots=True)
class Rule:
    """A reference to a rule: `call` is its name with its arguments, `name` its name alone."""

    call: str
    name: str
    fresh: bool


@dataclass(frozen=True, slots=True)
class Slot:
    """A reference to what a key holds, or to a field of it."""

    key: str
    owner: str
    category: str
    field: str | None
    article: bool
    capital: bool

    @property
    def kept(self) -> bool:
        return self.key[0] != "*"

    def styled(self, text: str) -> str:
        if self.article:
            text = ("an " if _VOWEL.match(text) else "a ") + text
        return text[0].upper() + text[1:] if self.capital else text


Node = str | OneOf | Rule | Slot
Sequence = tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Entry:
    """A word of a list, with its fields."""

    text: str
    fields: dict[str, Sequence] = field(default_factory=dict)


def parse(source: str) -> Sequence:
    """The nodes of a template. Raises ValueError at a template that does not parse."""
    source = re.sub(r"\s*=>\s*", TURN, source)
    source = re.sub(r" ?~ ?", f"[ |{PARAGRAPH}]", re.sub(r" ?/ ?", PARAGRAPH, source))
    tokens = _TOKEN.findall(source)
    if "".join(tokens) != source:
        raise ValueError(f"stray bracket in {source!r}")
    options, rest = _parse_options(tokens, 0)
    if rest != len(tokens) or len(options) != 1:
        raise ValueError(f"unbalanced brackets in {source!r}")
    return options[0]


def _parse_options(tokens: list[str], at: int) -> tuple[list[Sequence], int]:
    options: list[Sequence] = []
    nodes: list[Node] = []
    while at < len(tokens) and tokens[at] != "]":
        token = tokens[at]
        at += 1
        if token == "[":
            inner, at = _parse_options(tokens, at)
            nodes.append(OneOf(tuple(inner)))
            at += 1
        elif token == "|":
            options.append(tuple(nodes))
            nodes = []
        else:
            nodes.append(_parse_token(token))
    return [*options, tuple(nodes)], at


def _parse_token(token: str) -> Node:
    if match := _SLOT.fullmatch(token):
        article, capital, owner, name = match.groups()
        category = owner.strip("*0123456789ABCD") or "name"
        key = f"{owner}.{name}" if name else owner
        return Slot(key, owner, category, name, bool(article), bool(capital))
    if match := _RULE.fullmatch(token):
        name, fresh, *arguments = match.groups()
        return Rule(" ".join([name, *(a for a in arguments if a)]), name, bool(fresh))
    if token[0] in "{<":
        raise ValueError(f"not a slot or a rule: {token}")
    return token


def entries_of(words: str | Mapping[str, Mapping[str, str]]) -> tuple[Entry, ...]:
    """Entries of a list: "one, two, three", or a table of entries with their fields."""
    if isinstance(words, str):
        return tuple(Entry(" ".join(word.split())) for word in words.strip(", \n").split(","))
    return tuple(
        Entry(text, {name: parse(source) for name, source in fields.items()})
        for text, fields in words.items()
    )


class Grammar:
    """Rules and word lists; rules are compiled at their first use."""

    def __init__(self, rules: Mapping[str, str], lists: dict[str, tuple[Entry, ...]]) -> None:
        self.rules = rules
        self.lists = lists
        self.rare: dict[str, tuple[tuple[Entry, ...], float]] = {}
        """Second lists, and the share of a list's draws that go to them."""
        self._compiled: dict[str, tuple[Sequence, ...]] = {}

    def sources(self, category: str) -> list[tuple[str, tuple[Entry, ...], float]]:
        """The lists a slot draws from: what each is called, its entries and its share."""
        if category not in self.rare:
            return [(category, self.lists[category], 1.0)]
        rare, share = self.rare[category]
        return [(category, self.lists[category], 1 - share), (f"rare {category}", rare, share)]

    def alternatives(self, call: str) -> tuple[Sequence, ...]:
        found = self._compiled.get(call)
        if found is None:
            name, first, second, *_ = [*call.split(), "", ""]
            lines = self.rules[name].strip().splitlines()
            found = tuple(
                parse(line.strip().replace("@", first).replace("&", second)) for line in lines
            )
            self._compiled[call] = found
        return found


class Telling:
    """One text being written: the choices it draws on and what it has said so far."""

    def __init__(self, grammar: Grammar, choices: Choices) -> None:
        self.grammar = grammar
        self.choices = choices
        self.memory: dict[str, str] = {}
        self.entries: dict[str, Entry] = {}
        self._taken: dict[str, list[int]] = {}
        self._out: list[str] = []

    def tell(self, call: str) -> str:
        """The text of a rule, in one draw."""
        self._write(self.choices.pick(self.grammar.alternatives(call)))
        return "".join(self._out)

    def _write(self, nodes: Sequence) -> None:
        for node in nodes:
            if isinstance(node, str):
                self._out.append(node)
            elif isinstance(node, Slot):
                text = self.memory.get(node.key)
                if text is None:
                    text = self._choose(node)
                self._out.append(node.styled(text))
            elif isinstance(node, OneOf):
                self._write(self.choices.pick(node.options))
            else:
                options = self.grammar.alternatives(node.call)
                index = self._index(len(options), f"<{node.name}", node.fresh)
                self._write(options[index])

    def _choose(self, slot: Slot) -> str:
        entry = self.entries.get(slot.owner)
        if entry is None:  # "a girl named {A}" chooses the name before it is written
            sources = self.grammar.sources(slot.category)
            name, options = self.choices.weighted([((n, o), share) for n, o, share in sources])
            entry = options[self._index(len(options), name, fresh=True)]
            if not slot.kept:
                return entry.text
            self.entries[slot.owner] = entry
            self.memory[slot.owner] = entry.text
        if slot.field is None:
            return entry.text
        outer, self._out = self._out, []
        self._write(entry.fields[slot.field])
        text = self.memory[slot.key] = "".join(self._out)
        self._out = outer
        return text

    def _index(self, n: int, source: str, fresh: bool) -> int:
        if not fresh:
            return self.choices.index(n)
        taken = self._taken.setdefault(source, [])
        index = self.choices.index_except(n, taken)
        taken.append(index)
        return index


def load(*tables: Mapping[str, Any]) -> Grammar:
    """A grammar from TOML tables {"rules": {...}, "lists": {...}}; later tables win."""
    rules: dict[str, str] = {}
    lists: dict[str, tuple[Entry, ...]] = {}
    for table in tables:
        rules |= table.get("rules", {})
        lists |= {name: entries_of(words) for name, words in table.get("lists", {}).items()}
    return Grammar(rules, lists)
