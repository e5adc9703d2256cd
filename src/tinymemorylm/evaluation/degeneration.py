"""Degeneration: how often what a model writes repeats itself, loops, or isn't language at all.

In: a model, and the words that count as known. Out: rates over samples of a fixed panel of prompts.
"""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal

import numpy as np
from torch import Tensor

from tinymemorylm.decoding.batch import draw_batch
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.evaluation.repetition import distinct, ends_in_loop, repeats
from tinymemorylm.evaluation.statistics import bootstrap, wilson
from tinymemorylm.evaluation.words import invented, words
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import SPECIAL, SPECIAL_TOKENS, Message, Tokenizer

Kind = Literal["continuation", "chat"]

MAX_NEW_TOKENS = 200
"""As `tmlm generate` has it."""
_ROLE_MARK = re.compile(
    r"<\|?(?:pad|bos|eos|system|user|assistant)\|?>|^\W*(?:system|user|assistant) *:", re.I | re.M
)


@dataclass(frozen=True)
class Sample:
    """ids, text: what was drawn, without the control token that ended it (None: nothing did)."""

    prompt: str
    ids: list[int]
    text: str
    ended_by: str | None


def panel(kind: Kind) -> list[str]:
    """The fixed prompts."""
    source = resources.files("tinymemorylm.evaluation") / "prompts.toml"
    return tomllib.loads(source.read_text("utf-8"))[kind]


def draw(
    model: Transformer,
    tokenizer: Tokenizer,
    log_boost: Tensor | None,
    kind: Kind,
    n: int,
    temperature: float,
) -> list[Sample]:
    """n samples of the panel's prompts in turn, sample i with seed i."""
    prompts = [panel(kind)[i % len(panel(kind))] for i in range(n)]
    if kind == "chat":
        encoded = [tokenizer.encode_chat([Message("user", p)], True) for p in prompts]
    else:
        encoded = [[tokenizer.bos_id, *tokenizer.encode(p)] for p in prompts]
    samplings = [Sampling(temperature, seed=i) for i in range(n)]
    drawn = draw_batch(
        model, tokenizer, encoded, samplings, max_new_tokens=MAX_NEW_TOKENS, log_boost=log_boost
    )
    return [
        _sample(tokenizer, prompt, [token for token, _ in tokens])
        for prompt, tokens in zip(prompts, drawn, strict=True)
    ]


def _sample(tokenizer: Tokenizer, prompt: str, ids: list[int]) -> Sample:
    ended_by = None
    if tokenizer.classes[ids[-1]] == SPECIAL:
        ended_by, ids = SPECIAL_TOKENS[ids[-1]], ids[:-1]
    return Sample(prompt, ids, tokenizer.decode(ids), ended_by)


def collapsed(answer: Sample) -> bool:
    """Whether an answer breaks the format of a chat.

    It is empty, holds the whole prompt, speaks for a role ("User:", "<|user|>"), or was ended by
    a control token other than <eos>.
    """
    return (
        not answer.text.strip()
        or answer.prompt.lower() in answer.text.lower()
        or _ROLE_MARK.search(answer.text) is not None
        or answer.ended_by not in (None, "<eos>")
    )


def degeneration(samples: Sequence[Sample], known: set[str], chat: bool) -> list[dict[str, Any]]:
    """A row a measure: its value and, but for distinct-n, an interval of 95% confidence.

    repeated_4grams: share of the word 4-grams that occurred before in their sample.
    ends_in_loop: share of samples (see `ends_in_loop`). distinct_1 to 3: of the words of all
    samples together. invented_words: share of the words of letters that neither `known` nor the
    sample's prompt has. never_stops: share of samples that nothing ended within MAX_NEW_TOKENS.
    format_collapse: share of chats (see `collapsed`).
    """
    said = [words(sample.text) for sample in samples]
    strange = [invented(s.text, known | set(words(s.prompt))) for s in samples]
    rows = [
        _rate("repeated_4grams", [repeats(sequence, 4) for sequence in said]),
        _share("ends_in_loop", [ends_in_loop(sample.ids) for sample in samples]),
        *(_row(f"distinct_{n}", distinct(said, n), len(samples)) for n in (1, 2, 3)),
        _rate("invented_words", strange),
        _share("never_stops", [sample.ended_by is None for sample in samples]),
    ]
    return rows + [_share("format_collapse", [collapsed(s) for s in samples])] * chat


def _rate(measure: str, counts: list[tuple[int, int]]) -> dict[str, Any]:
    parts, wholes = np.array(counts, float).T
    value = parts.sum() / max(1.0, wholes.sum())
    return _row(measure, value, len(counts), *bootstrap(parts, wholes))


def _share(measure: str, found: list[bool]) -> dict[str, Any]:
    return _row(measure, sum(found) / len(found), len(found), *wilson(sum(found), len(found)))


def _row(
    measure: str, value: float, n: int, low: float | None = None, high: float | None = None
) -> dict[str, Any]:
    interval = (None if end is None else round(end, 5) for end in (low, high))
    row = {"measure": measure, "value": round(float(value), 5)}
    return {**row, **dict(zip(("low", "high"), interval, strict=True)), "n": n}
