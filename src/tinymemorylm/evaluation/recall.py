"""Recall: a fact is told, stories follow, and a question asks for the fact.

In: a model, and whether it answers chats. Out: how often the fact is the likeliest of eight
answers, and how often it is the greedy answer, by the tokens between the fact and the question.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from tinymemorylm.corpus.storyworld import Choices, story
from tinymemorylm.corpus.storyworld.conversations import chats
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.evaluation.statistics import share
from tinymemorylm.progress import Progress
from tinymemorylm.tokenizer import Message, Tokenizer

DISTANCES = (0, 64, 128, 256, 512, 1024, 1900)
"""Tokens of stories between fact and question, at most: they end with a whole sentence."""
KINDS = ("name", "thing", "color")
N_CANDIDATES = 8
TIMES_TRUE = 5
"""How often each candidate is the answer: who ignores the fact is right once in N_CANDIDATES."""


@dataclass(frozen=True)
class Form:
    """Wordings over {name}, {thing} and {color}: the fact; for each kind the question and what
    begins its answer, which then goes on with the word asked for."""

    fact: str
    ask: dict[str, tuple[str, str]]


# Both are in the words of what the models are trained on: conversations about a telling, and
# stories. But no story says a color twice: that sentence is new to a pretrained model.
CHAT = Form(
    "{name} has a {color} {thing}.",
    {
        "name": ("Who has the {thing}?", ""),
        "thing": ("What does {name} have?", "{name} has a {color}"),
        "color": ("What color is the {thing}?", "The {thing} is"),
    },
)
CONTINUATION = Form(
    "{name} had a {color} {thing}.",
    {
        "name": ("", "Now the {thing} belonged to"),
        "thing": ("", "{name} held the"),
        "color": ("", "The {thing} that {name} had was"),
    },
)


@dataclass(frozen=True)
class Question:
    """What is told, a name, a thing and a color, and which `kind` of these is asked for."""

    kind: str
    fact: dict[str, str]
    candidates: tuple[str, ...]
    sentences: tuple[tuple[str, int], ...] = field(repr=False)
    """Stories that mention nothing of the fact, by sentence, and the tokens of each alone."""

    @property
    def truth(self) -> int:
        """Which candidate is right."""
        return self.candidates.index(self.fact[self.kind])

    def between(self, distance: int) -> str:
        """Stories of up to `distance` tokens."""
        kept: list[str] = []
        for sentence, n_tokens in self.sentences:
            distance -= n_tokens
            if distance < 0:
                break
            kept.append(sentence)
        return "".join(kept)

    def prompt(self, tokenizer: Tokenizer, distance: int, chat: bool) -> list[int]:
        """Ids of the fact, the stories and the question, up to the word asked for."""
        form = CHAT if chat else CONTINUATION
        told = form.fact.format_map(self.fact) + self.between(distance)
        ask, begun = (wording.format_map(self.fact) for wording in form.ask[self.kind])
        if not chat:
            return [tokenizer.bos_id, *tokenizer.encode(f"{told} {begun}")]
        messages = [Message("user", f"{told} {ask}")]
        return tokenizer.encode_chat(messages, True) + tokenizer.encode(begun)

    def answers(self, tokenizer: Tokenizer, chat: bool) -> list[list[int]]:
        """Ids of each candidate as it goes on after `prompt`."""
        _, begun = (CHAT if chat else CONTINUATION).ask[self.kind]
        return tokenizer.encode_batch([" " * bool(begun) + word for word in self.candidates])


def questions(tokenizer: Tokenizer, longest: int, seed: int = 0) -> list[Question]:
    """TIMES_TRUE x N_CANDIDATES of each kind, with stories of at least `longest` tokens."""
    choices = Choices(f"recall:{seed}")
    lists = chats()[0][1].lists
    words = {kind: [entry.text for entry in lists[kind]] for kind in KINDS}
    asked: list[Question] = []
    for kind in KINDS:
        candidates = apart(choices, words[kind])
        for truth in candidates * TIMES_TRUE:
            fact = {other: choices.pick(words[other]) for other in KINDS} | {kind: truth}
            sentences = sentences_without(set(fact.values()), choices, tokenizer, longest)
            asked.append(Question(kind, fact, candidates, tuple(sentences)))
    return asked


def apart(choices: Choices, words: Sequence[str]) -> tuple[str, ...]:
    """N_CANDIDATES of the words, none the beginning of another."""
    picked: list[str] = []
    while len(picked) < N_CANDIDATES:
        word = choices.pick(words)
        if not any(word.startswith(other) or other.startswith(word) for other in picked):
            picked.append(word)
    return tuple(picked)


def sentences_without(
    words: set[str], choices: Choices, tokenizer: Tokenizer, n_tokens: int
) -> Iterator[tuple[str, int]]:
    """Sentences of new stories that hold none of the words, and the tokens of each."""
    unwanted = {word.lower() for word in words}
    while n_tokens > 0:
        text = story(choices).text
        if unwanted & set(re.findall(r"\w+", text.lower())):
            continue
        pieces = list(sentences("\n" + text))
        for piece, ids in zip(pieces, tokenizer.encode_batch(pieces), strict=True):
            n_tokens -= len(ids)
            yield piece, len(ids)


def sentences(text: str) -> Iterator[str]:
    """The text cut after its sentences, outside of quotations; each begins with its space."""
    start = 0
    for end in re.finditer(r"(?<=[.!?])(?=\s)|\Z", text):
        piece = text[start : end.start()]
        if piece and piece.count('"') % 2 == 0:
            yield piece
            start = end.start()


def recall(scorer: Scorer, *, chat: bool, seed: int = 0) -> list[dict[str, Any]]:
    """A row for each distance that fits into the context, of the same questions at each.

    chat: ask in the chat template, else by a sentence to finish.
    """
    tokenizer, context = scorer.tokenizer, scorer.context_length
    asked = questions(tokenizer, min(max(DISTANCES), context), seed)
    answers = [question.answers(tokenizer, chat) for question in asked]
    longest = max(len(ids) for candidates in answers for ids in candidates)
    prompts = {d: [q.prompt(tokenizer, d, chat) for q in asked] for d in DISTANCES}
    fitting = {d: p for d, p in prompts.items() if max(map(len, p)) + longest <= context}
    rows: list[dict[str, Any]] = []
    done = 0
    with Progress("recall", sum(len(p) for of_all in fitting.values() for p in of_all)) as progress:
        for distance, of_all in fitting.items():
            found: list[tuple[bool, bool]] = []
            for question, prompt, candidates in zip(asked, of_all, answers, strict=True):
                found.append(answered(scorer, prompt, candidates, question.truth))
                done += len(prompt)
                progress.update(done, f"{distance:,} tokens after")
            between = tokenizer.encode_batch([question.between(distance) for question in asked])
            tokens = sum(map(len, between)) / len(between)
            rows.append({"distance": distance, "tokens": round(tokens, 1), **_shares(asked, found)})
    return rows


def answered(
    scorer: Scorer, prompt: list[int], answers: list[list[int]], truth: int
) -> tuple[bool, bool]:
    """Whether the true answer is the likeliest, and whether it is what greedy decoding says."""
    logits = scorer.logits_after(prompt, answers)
    nats = [
        -float(of_answer.log_softmax(-1).gather(1, torch.tensor(ids)[:, None]).sum())
        for of_answer, ids in zip(logits, answers, strict=True)
    ]
    greedy = logits[truth].argmax(-1).tolist() == answers[truth]
    return nats.index(min(nats)) == truth, greedy


def _shares(asked: list[Question], found: list[tuple[bool, bool]]) -> dict[str, Any]:
    n = len(asked)
    likeliest, greedy = zip(*found, strict=True)
    of_kind = {
        kind: [hit for q, hit in zip(asked, likeliest, strict=True) if q.kind == kind]
        for kind in KINDS
    }
    return {
        "questions": n,
        "chance": 1 / N_CANDIDATES,
        **share("accuracy", sum(likeliest), n),
        **share("exact", sum(greedy), n),
        **{kind: round(sum(hits) / len(hits), 4) for kind, hits in of_kind.items()},
    }
