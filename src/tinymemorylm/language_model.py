"""A trained model as one object: generate, stream, chat, score, tokens.

In: a model directory. Out: text, and log-probabilities. The command line sits on this.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, Unpack

from torch import Tensor

from tinymemorylm.chat.history import checked, fit, room_for_answer
from tinymemorylm.decoding.reference import stream_tokens
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.decoding.text import Generation, Pieces, finished, stream_text
from tinymemorylm.device import choose_device
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.bits_per_byte import documents_nll
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import Weights, load_model, read_log_boost
from tinymemorylm.splitting import Token, tokens
from tinymemorylm.tokenizer import Message, Tokenizer

MAX_NEW_TOKENS = 200

Prompt = str | Sequence[Message | dict[str, str]]
"""A text to continue, or messages to answer."""


class Options(TypedDict, total=False):
    """How to sample (`Sampling` has the defaults) and where to end."""

    temperature: float
    top_k: int
    top_p: float
    min_p: float
    repetition_penalty: float
    seed: int
    max_new_tokens: int
    stop: str | Sequence[str]


@dataclass(frozen=True)
class ScoredToken(Token):
    """A token and its log-probability in nats, given what stands before it."""

    logprob: float


@dataclass(frozen=True)
class Score:
    """A text's tokens with their log-probabilities, and the total in nats."""

    tokens: list[ScoredToken]
    logprob: float
    n_bytes: int

    @property
    def bits_per_byte(self) -> float:
        return -self.logprob / math.log(2) / max(1, self.n_bytes)


class LanguageModel:
    """A model, its tokenizer, and the adjustment its weights need, if any.

    >>> lm.generate("Once upon a time", seed=1, max_new_tokens=5).completion_tokens
    5
    """

    def __init__(
        self, model: Transformer, tokenizer: Tokenizer, log_boost: Tensor | None = None
    ) -> None:
        self.model, self.tokenizer, self.log_boost = model, tokenizer, log_boost

    @classmethod
    def load(
        cls, directory: str | Path, weights: Weights | None = None, device: str = "cpu"
    ) -> "LanguageModel":
        """Read a model directory. weights None: the tuned ones if there.

        Raises InputError for a missing or damaged directory, or a device that isn't there.
        """
        folder = Path(directory)
        target = choose_device(device)
        model, tokenizer = load_model(folder, weights, device)
        log_boost = read_log_boost(folder, tokenizer, weights)
        return cls(model, tokenizer, None if log_boost is None else log_boost.to(target))

    @property
    def scorer(self) -> Scorer:
        """The model as what the evaluations take."""
        return Scorer(self.model, self.tokenizer, self.log_boost)

    @property
    def context_length(self) -> int:
        """The most tokens a prompt and its answer hold together."""
        return self.model.config.context_length

    def generate(self, prompt: Prompt, **options: Unpack[Options]) -> Generation:
        """Continue a text, or answer messages; the text comes with its ids and their nll.

        Ends at <eos>, a stop string, `max_new_tokens` (200) or a full context. Of messages too
        long for the context the oldest exchanges are left out. Raises InputError for a prompt
        that can't fit or an option out of range.

        >>> done = lm.generate("The cat", temperature=0, max_new_tokens=8)
        >>> done.finish_reason in ("length", "stop"), len(done.token_ids) == len(done.nll)
        (True, True)
        """
        return finished(self._pieces(prompt, options))

    def stream(self, prompt: Prompt, **options: Unpack[Options]) -> Iterator[str]:
        """`generate`'s text piece by piece, never half of a character.

        >>> pieces = lm.stream("Once upon a time", seed=1)
        >>> "".join(pieces) == lm.generate("Once upon a time", seed=1).text
        True
        """
        return (piece for piece in self._pieces(prompt, options) if piece)

    def chat(self, messages: Prompt, **options: Unpack[Options]) -> str:
        """The answer to a user's message, or to a conversation that ends with one.

        >>> answer = lm.chat("Hello!", seed=2)
        >>> conversation = [
        ...     {"role": "user", "content": "Hello!"},
        ...     {"role": "assistant", "content": answer or "Hi."},
        ...     {"role": "user", "content": "What is a river?"},
        ... ]
        >>> isinstance(lm.chat(conversation), str)
        True
        """
        if isinstance(messages, str):
            messages = [Message("user", messages)]
        return self.generate(messages, **options).text

    def score(self, text: str, progress: Callable[[int, int], None] | None = None) -> Score:
        """Log-probabilities of a text of any length, by the protocol of `bits_per_byte`.

        progress is called now and then with the tokens done and their number. Raises InputError
        for half of a surrogate pair.

        >>> score = lm.score("The cat sat.")
        >>> score.n_bytes, score.logprob < 0, score.bits_per_byte > 0
        (12, True, True)
        >>> "".join(token.text for token in score.tokens)
        'The cat sat.'
        """
        split = self.tokens(text)
        logprobs: list[float] = []
        ids = [token.id for token in split]
        for nll in documents_nll(self.scorer, [ids]):
            logprobs += (-nll).tolist()
            if progress:
                progress(len(logprobs), len(split))
        scored = [
            ScoredToken(token.id, token.text, token.spelled, token.token_class, logprob)
            for token, logprob in zip(split, logprobs, strict=True)
        ]
        return Score(scored, sum(logprobs, 0.0), len(text.encode()))

    def tokens(self, text: str) -> list[Token]:
        """How a text splits, without <bos>. Raises InputError for half of a surrogate pair.

        >>> [(token.text, token.token_class) for token in lm.tokens("x7")]
        [('x', 'character'), ('7', 'character')]
        """
        return tokens(self.tokenizer, text)

    def _pieces(self, prompt: Prompt, options: Options) -> Pieces:
        max_new_tokens = options.get("max_new_tokens", MAX_NEW_TOKENS)
        stop = options.get("stop", ())
        rest = {k: v for k, v in options.items() if k not in ("max_new_tokens", "stop")}
        sampling = Sampling(**rest)  # type: ignore
        ids = self._prompt_ids(prompt, max_new_tokens)
        return stream_text(
            stream_tokens(self.model, ids, sampling, self.log_boost),
            self.tokenizer,
            prompt_tokens=len(ids),
            max_new_tokens=max_new_tokens,
            stop=(stop,) if isinstance(stop, str) else stop,
        )

    def _prompt_ids(self, prompt: Prompt, max_new_tokens: int) -> list[int]:
        if isinstance(prompt, str):
            return [self.tokenizer.bos_id, *self.tokenizer.encode(prompt)]
        messages = checked(prompt)
        if not messages or messages[-1].role != "user":
            raise InputError("nothing to answer: the last message must be the user's")
        limit = self.prompt_limit(max_new_tokens)
        return self.tokenizer.encode_chat(fit(self.tokenizer, messages, limit), True)

    def prompt_limit(self, max_new_tokens: int = MAX_NEW_TOKENS) -> int:
        """The most tokens of a conversation that leave room for an answer."""
        return self.context_length - room_for_answer(self.context_length, max_new_tokens)
