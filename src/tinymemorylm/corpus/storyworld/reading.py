"""Reads a text back into the choices that wrote it.

In: a grammar, a rule and a text. Out: the bits of every way in which the rule writes that text;
one reading for each text is what makes the sum of the choices' bits the text's exact information.
"""

import math
from dataclasses import dataclass, replace

from tinymemorylm.corpus.storyworld.grammar import Entry, Grammar, Node, OneOf, Rule, Slot


@dataclass(frozen=True, slots=True)
class _Heard:
    """Marks where the text of a slot's field ends; it began at `start`."""

    key: str
    start: int


@dataclass(frozen=True, slots=True)
class _Reading:
    """A partial reading: what is still to match (a linked list), and the teller's state so far."""

    pending: "tuple[Node | _Heard, _Pending] | None"
    at: int
    bits: float
    memory: dict[str, str]
    entries: dict[str, Entry]
    taken: dict[str, tuple[int, ...]]


_Pending = tuple[Node | _Heard, "_Pending"] | None


def _push(nodes: tuple[Node | _Heard, ...], rest: _Pending) -> _Pending:
    for node in reversed(nodes):
        rest = (node, rest)
    return rest


def readings(grammar: Grammar, call: str, text: str) -> list[float]:
    """The bits of each way in which `call` writes `text`."""
    found: list[float] = []
    options = grammar.alternatives(call)
    bits = math.log2(len(options))
    stack = [_Reading(_push(nodes, None), 0, bits, {}, {}, {}) for nodes in options]
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
            memory = reading.memory | {node.key: text[node.start : reading.at]}
            stack.append(replace(reading, pending=rest, memory=memory))
        elif isinstance(node, OneOf):
            bits = reading.bits + math.log2(len(node.options))
            for nodes in node.options:
                stack.append(replace(reading, pending=_push(nodes, rest), bits=bits))
        elif isinstance(node, Rule):
            stack += _rule(grammar, node, reading, rest)
        else:
            stack += _slot(grammar, node, reading, rest, text)
    return found


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


def _slot(
    grammar: Grammar, slot: Slot, reading: _Reading, rest: _Pending, text: str
) -> list[_Reading]:
    known = reading.memory.get(slot.key)
    if known is not None:
        return [replace(reading, pending=(slot.styled(known), rest))]
    if slot.owner not in reading.entries:
        named = _name(grammar, slot, reading)
        if slot.field is None:
            named = [r for r in named if text.startswith(slot.styled(r.memory[slot.key]), r.at)]
        return [replace(r, pending=(slot, rest)) for r in named]
    nodes = reading.entries[slot.owner].fields[slot.field or ""]
    if len(nodes) == 1 and isinstance(nodes[0], str):
        memory = reading.memory | {slot.key: nodes[0]}
        return [replace(reading, pending=(slot.styled(nodes[0]), rest), memory=memory)]
    heard = _Heard(slot.key, reading.at)  # such fields are written as they are, unstyled
    return [replace(reading, pending=_push((*nodes, heard), rest))]


def _name(grammar: Grammar, slot: Slot, reading: _Reading) -> list[_Reading]:
    """Every choice of the entry that a slot speaks of."""
    options = grammar.lists[slot.category]
    taken = reading.taken.get(slot.category, ())
    bits = reading.bits + math.log2(len(options) - len(taken))
    return [
        replace(
            reading,
            bits=bits,
            memory=reading.memory | {slot.owner: entry.text},
            entries=reading.entries | {slot.owner: entry},
            taken=reading.taken | {slot.category: (*taken, index)},
        )
        for index, entry in enumerate(options)
        if index not in taken
    ]
