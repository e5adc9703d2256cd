"""Reads a text back into the choices that wrote it.

In: a grammar, a rule and a text. Out: the bits of every way in which the rule writes that text;
one reading for each text is what makes the sum of the choices' bits the text's exact information.
"""

import math
from collections import defaultdict
from dataclasses import dataclass, replace
from functools import cache

from tinymemorylm.corpus.storyworld.grammar import Entry, Grammar, Node, OneOf, Rule, Slot


@dataclass(frozen=True, slots=True)
class _Heard:
    """Marks where the text of a slot's field ends; it began at `start`."""

    slot: Slot
    start: int


_Pending = tuple[Node | _Heard, "_Pending"] | None  # what is still to match, a linked list


@dataclass(frozen=True, slots=True)
class _Reading:
    """A partial reading: what is still to match, and the teller's state so far."""

    pending: _Pending
    at: int
    bits: float
    memory: dict[str, str]
    entries: dict[str, Entry]
    taken: dict[str, tuple[int, ...]]


def readings(grammar: Grammar, call: str, text: str) -> list[float]:
    """The bits of each way in which `call` writes `text`."""
    found: list[float] = []
    stack = [_Reading((Rule(call, call, False), None), 0, 0.0, {}, {}, {})]
    while stack:
        reading = stack.pop()
        if reading.pending is None:
            if reading.at == len(text):
                found.append(reading.bits)
            continue
        node, rest = reading.pending
        if isinstance(node, str):
            if text.startswith(node, reading.at):
                stack.append(replace(reading, pending=rest, at=reading.at + len(node)))
        elif isinstance(node, _Heard):
            heard = text[node.start : reading.at]
            if node.slot.capital:
                heard = heard[0].lower() + heard[1:]
            memory = reading.memory | {node.slot.key: heard}
            stack.append(replace(reading, pending=rest, memory=memory))
        elif isinstance(node, OneOf):
            bits = reading.bits + math.log2(len(node.options))
            for nodes in node.options:
                stack.append(replace(reading, pending=_push(nodes, rest), bits=bits))
        elif isinstance(node, Rule):
            stack += _rule(grammar, node, reading, rest)
        elif node.key in reading.memory:
            said = node.styled(reading.memory[node.key])
            stack.append(replace(reading, pending=(said, rest)))
        elif node.owner in reading.entries:
            stack.append(_field(node, reading, rest))
        else:
            stack += _slot(grammar, node, reading, rest, text)
    return found


def _push(nodes: tuple[Node | _Heard, ...], rest: _Pending) -> _Pending:
    for node in reversed(nodes):
        rest = (node, rest)
    return rest


def _rule(grammar: Grammar, rule: Rule, reading: _Reading, rest: _Pending) -> list[_Reading]:
    options = grammar.alternatives(rule.call)
    source = f"<{rule.name}"
    taken = reading.taken.get(source, ()) if rule.fresh else ()
    bits = reading.bits + math.log2(len(options) - len(taken))
    return [
        replace(
            reading,
            pending=_push(nodes, rest),
            bits=bits,
            taken=reading.taken | {source: (*taken, index)} if rule.fresh else reading.taken,
        )
        for index, nodes in enumerate(options)
        if index not in taken
    ]


def _field(slot: Slot, reading: _Reading, rest: _Pending) -> _Reading:
    """A field not yet said, of an entry already chosen."""
    first, *others = reading.entries[slot.owner].fields[slot.field or ""]
    if slot.capital or slot.article:  # only where the field begins with plain text
        first = slot.styled(str(first))
    return replace(reading, pending=_push((first, *others, _Heard(slot, reading.at)), rest))


def _slot(
    grammar: Grammar, slot: Slot, reading: _Reading, rest: _Pending, text: str
) -> list[_Reading]:
    """Every choice of the entry that a slot names, or whose field it says first."""
    found: list[_Reading] = []
    if slot.field is not None:
        rest = (slot, rest)
    for source in _sources(grammar, slot):
        taken = reading.taken.get(source.name, ())
        bits = reading.bits - math.log2(source.share) + math.log2(source.size - len(taken))
        for index, entry, said in source.beginning(text[reading.at : reading.at + 1]):
            if index in taken or not text.startswith(said, reading.at):
                continue
            memory, entries = reading.memory, reading.entries
            if slot.kept:
                memory = memory | {slot.owner: entry.text}
                entries = entries | {slot.owner: entry}
            at = reading.at + len(said) if slot.field is None else reading.at
            now_taken = reading.taken | {source.name: (*taken, index)}
            found.append(_Reading(rest, at, bits, memory, entries, now_taken))
    return found


@dataclass(frozen=True, slots=True)
class _Source:
    """A list that a slot draws from; its entries by the first character of what the slot says.

    That is the entry, or the plain text in front of its field; "" where the field begins otherwise.
    """

    name: str
    size: int
    share: float
    by_initial: dict[str, list[tuple[int, Entry, str]]]

    def beginning(self, initial: str) -> list[tuple[int, Entry, str]]:
        """Index, entry and what is said of it, for those that may begin with `initial`."""
        return [*self.by_initial.get(initial, ()), *self.by_initial.get("", ())]


@cache
def _sources(grammar: Grammar, slot: Slot) -> tuple[_Source, ...]:
    sources: list[_Source] = []
    for name, options, share in grammar.sources(slot.category):
        by_initial: dict[str, list[tuple[int, Entry, str]]] = defaultdict(list)
        for index, entry in enumerate(options):
            first = entry.text if slot.field is None else entry.fields[slot.field][0]
            said = slot.styled(first) if isinstance(first, str) else ""
            by_initial[said[:1]].append((index, entry, said))
        sources.append(_Source(name, len(options), share, dict(by_initial)))
    return tuple(sources)
