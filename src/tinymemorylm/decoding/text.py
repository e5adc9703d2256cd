"""From a stream of tokens to text: whole characters at once, ended where it should end.

In: (id, nll) pairs from any engine. Out: pieces of text that will not change any more, and at
the end a `Generation`.
"""

import codecs
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field

from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import SPECIAL, Tokenizer


@dataclass(frozen=True)
class Generation:
    """text and token_ids without the prompt and without what ended it.

    finish_reason: 'stop' (<eos> or a stop string), or 'length'. nll: nats of each token under
    the model itself, whatever the sampling.
    """

    text: str
    token_ids: list[int]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tokens_per_second: float
    nll: list[float] = field(repr=False)


Pieces = Generator[str, None, Generation]
"""Yields pieces of text as they come, returns the whole."""


class TextAssembler:
    """Bytes in, text out as soon as it is sure.

    Held back: the first bytes of a character not yet complete, and text that may turn out to
    begin a stop string. Broken UTF-8 becomes U+FFFD, as in `Tokenizer.decode`.
    """

    def __init__(self, stop: Sequence[str] = ()) -> None:
        self.stop = stop
        self.stopped = False
        """Whether a stop string came; it and what follows it are not given out."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._held = ""

    def add(self, spelled: bytes, final: bool = False) -> str:
        """What became sure by these bytes; with `final` everything still held back too."""
        text = self._held + self._decoder.decode(spelled, final)
        if found := [at for s in self.stop if (at := text.find(s)) >= 0]:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        kept = 0 if final else max([_overlap(text, s) for s in self.stop], default=0)
        sure = len(text) - kept
        self._held = text[sure:]
        return text[:sure]


def _overlap(text: str, stop: str) -> int:
    """Length of the longest end of `text` that is a beginning of `stop`."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)


def stream_text(
    tokens: Iterable[tuple[int, float]],
    tokenizer: Tokenizer,
    *,
    prompt_tokens: int,
    max_new_tokens: int = 200,
    stop: Sequence[str] = (),
) -> Pieces:
    """The text of `tokens` until a control token, a stop string or `max_new_tokens`.

    Any control token ends the text as <eos> does: none of them belongs into it. A piece is empty
    when its token made nothing sure. Raises InputError for an empty stop string or a non-positive
    `max_new_tokens`, at once.
    """
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens must be at least 1, not {max_new_tokens}")
    if any(not s for s in stop):
        raise InputError("a stop string is empty")
    return _pieces(tokens, tokenizer, prompt_tokens, max_new_tokens, stop)


def _pieces(
    tokens: Iterable[tuple[int, float]],
    tokenizer: Tokenizer,
    prompt_tokens: int,
    max_new_tokens: int,
    stop: Sequence[str],
) -> Pieces:
    ids: list[int] = []
    nll: list[float] = []
    given: list[str] = []
    reason = "length"
    assembler = TextAssembler(stop)
    began = time.perf_counter()
    for token, nats in tokens:
        if tokenizer.classes[token] == SPECIAL:
            reason = "stop"
            break
        ids.append(token)
        nll.append(nats)
        given.append(assembler.add(tokenizer.token_bytes(token)))
        yield given[-1]
        if assembler.stopped or len(ids) == max_new_tokens:
            break
    if not assembler.stopped:
        given.append(assembler.add(b"", final=True))
        yield given[-1]
    seconds = time.perf_counter() - began
    speed = round(len(ids) / seconds, 1) if seconds > 0 else 0.0
    reason = "stop" if assembler.stopped else reason
    return Generation("".join(given), ids, reason, prompt_tokens, len(ids), speed, nll)


def finished(pieces: Pieces) -> Generation:
    """Run a stream of text to its end."""
    while True:
        try:
            next(pieces)
        except StopIteration as end:
            return end.value
