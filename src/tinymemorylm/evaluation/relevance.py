"""Relevance: how much likelier a response is under its own prompt than under another's.

In: a model and conversations. Out: bits per byte of their last responses under the true prompt
and under shuffled ones, and the gain: what the model takes from the prompt.
"""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.scoring import Scorer, Window
from tinymemorylm.evaluation.statistics import bootstrap
from tinymemorylm.tokenizer import Message, Tokenizer


@dataclass(frozen=True)
class Exchange:
    """A last response, and all that comes before it, up to <|assistant|>; ids of both."""

    prompt: list[int]
    response: list[int]
    n_bytes: int


def last_exchange(tokenizer: Tokenizer, messages: Sequence[Message]) -> Exchange:
    """The conversation up to the last assistant turn, and that turn's content without <eos>."""
    last = max(i for i, message in enumerate(messages) if message.role == "assistant")
    content = messages[last].content
    prompt = tokenizer.encode_chat(messages[:last], add_generation_prompt=True)
    return Exchange(prompt, tokenizer.encode(content), len(content.encode()))


def derangement(keys: Sequence[Hashable], seed: int) -> NDArray[np.int64] | None:
    """For each key the index of one that is unequal, every index once; None if there is no way.

    Equal keys are put side by side, in shuffled order, and each is given the index that stands as
    many places on as the most frequent key occurs.
    """
    order = np.random.default_rng(seed).permutation(len(keys))
    counts = Counter(keys[i] for i in order)
    most = max(counts.values(), default=1)
    if 2 * most > len(keys):
        return None
    place = {key: number for number, key in enumerate(counts)}
    order = np.array(sorted(order, key=lambda i: place[keys[i]]))
    others = np.empty_like(order)
    others[order] = np.roll(order, -most)
    return others


def relevance(
    scorer: Scorer, conversations: Iterable[Sequence[Message]], path: str, seed: int = 0
) -> dict[str, Any]:
    """A row of the conversations at `path`: bits per byte of responses, and the gain in them.

    Bits count the content of the last assistant turn, without its <eos>. left_out: conversations
    that exceed the context, themselves or under the other prompt. low, high: of the gain, over
    conversations. A prompt answered by the same text is never another's. Raises InputError when
    no prompts can be exchanged.
    """
    every = [last_exchange(scorer.tokenizer, messages) for messages in conversations]
    room = scorer.context_length
    kept = [e for e in every if len(e.prompt) + len(e.response) <= room]
    others = derangement([tuple(e.response) for e in kept], seed)
    pairs = [
        (own, kept[other])
        for own, other in zip(kept, [] if others is None else others, strict=False)
        if len(kept[other].prompt) + len(own.response) <= room
    ]
    if not pairs:
        raise InputError(
            f"{path}: the prompts of its {len(every)} conversations can't be exchanged: over half "
            f"end with the same response, or too few fit the context of {room} tokens; give others"
        )
    windows = [
        Window(asked.prompt + own.response, len(own.response))
        for own, other in pairs
        for asked in (own, other)
    ]
    bits = np.array(scorer.totals(windows, path)).reshape(-1, 2) / math.log(2)  # true, shuffled
    n_bytes = np.array([own.n_bytes for own, _ in pairs], float)
    true, shuffled = bits.sum(0) / n_bytes.sum()
    low, high = bootstrap(bits[:, 1] - bits[:, 0], n_bytes)
    return {
        "path": path,
        "n": len(pairs),
        "left_out": len(every) - len(pairs),
        "bits_per_byte": round(float(true), 5),
        "shuffled_bits_per_byte": round(float(shuffled), 5),
        "gain": round(float(shuffled - true), 5),
        "low": round(low, 5),
        "high": round(high, 5),
        "bytes": int(n_bytes.sum()),
    }
