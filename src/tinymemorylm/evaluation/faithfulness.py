"""Faithfulness: whether answers about a story told in the message are what the story says.

In: something that answers messages. Out: shares of its answers that are right, contradict the
story, invent, or do not answer, judged by the grammar that wrote the story and the question.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache
from itertools import cycle, pairwise
from typing import Any

from tinymemorylm.corpus.storyworld import Choices
from tinymemorylm.corpus.storyworld.conversations import chats
from tinymemorylm.corpus.storyworld.grammar import TURN, Grammar, Telling
from tinymemorylm.corpus.storyworld.reading import readings
from tinymemorylm.corpus.storyworld.stories import plots
from tinymemorylm.evaluation.statistics import share
from tinymemorylm.progress import Progress

PER_KIND = 16
"""Questions of each kind about tellings of a few sentences, and as many about whole stories."""
MAX_NEW_TOKENS = 40
NOTHING_TOLD = ("asking", "greeting")
"""Kinds of conversations that are not questions about a telling."""
KINDS = ("who", "what", "where", "yes or no", "not told")
OUTCOMES = ("right", "contradicts", "invents", "no answer")

_SILENT = re.compile(r"(not|n't) (say|tell|know)|cannot know")
_LITTLE = {"a", "an", "the", "it", "is", "was", "s", "yes", "no"}


@dataclass(frozen=True)
class Question:
    """A story and a question about it, in one message, and the answer its grammar gave."""

    telling: str  # "a few sentences" or "a whole story"
    grammar: Grammar = field(repr=False)
    message: str
    expected: str

    @property
    def asked(self) -> str:
        """The question, which is the last sentence of the message."""
        return re.split(r'(?<=[.!?"]) ', self.message)[-1]

    @property
    def story(self) -> str:
        return self.message.removesuffix(self.asked)

    @property
    def kind(self) -> str:
        """What is asked for, or "not told" where the story does not say."""
        if _SILENT.search(self.expected):
            return "not told"
        if self.expected.startswith(("Yes,", "No,")):
            return "yes or no"
        first = words(self.asked)[0]
        return {"who": "who", "whose": "who", "where": "where"}.get(first, "what")


def questions(seed: int = 0) -> Iterator[Question]:
    """PER_KIND of each kind for each length of telling, every sort of story in its turn."""
    short = [grammar for name, grammar in chats() if name not in NOTHING_TOLD]
    long = [grammar for _, grammar in plots()]
    for telling, grammars in (("a few sentences", short), ("a whole story", long)):
        choices = Choices(f"faithfulness:{seed}:{telling}")
        left: dict[str, int] = dict.fromkeys(KINDS, PER_KIND)
        for grammar in cycle(grammars):
            if not any(left.values()):
                break
            message, answer, *_ = Telling(grammar, choices).tell("chat").split(TURN)
            question = Question(telling, grammar, message, answer)
            if message.endswith("?") and left[question.kind]:  # else a story is to be told
                left[question.kind] -= 1
                yield question


def judge(question: Question, answer: str) -> str:
    """One of OUTCOMES.

    right: the grammar itself could have answered so; or the answer is its answer in fewer words,
    with all that was asked for, perhaps described as the story does. invents: it holds a word that
    is neither in the message nor one that answers are phrased with, or it knows what the story does
    not say. contradicts: wrong in words of the message: another value, confused ones, yes for no.
    no answer: nothing, or that the story does not say, where it does.
    """
    if readings(question.grammar, "chat", question.message + TURN + answer):
        return "right"
    said, silent = words(answer), bool(_SILENT.search(answer))
    if question.kind == "not told":
        return "right" if silent else "invents" if said else "no answer"
    if silent or not said:
        return "no answer"
    if _in_fewer_words(question, said):
        return "right"
    known = {*words(question.message), *words(question.expected), *_LITTLE} | phrasing()
    return "invents" if set(said) - known else "contradicts"


def _in_fewer_words(question: Question, said: list[str]) -> bool:
    """Whether `said` is the expected answer, words left out, in its order."""
    story, asked, wanted = map(words, (question.story, question.asked, question.expected))
    sought = set(wanted) - set(asked) - _LITTLE
    named = (sought | set(asked)) - phrasing()
    told = set(pairwise(story))
    kept = [  # "a silver bell" is "a bell" where the story calls it so
        word
        for word, after in pairwise([*said, ""])
        if word not in _LITTLE and not (after in named and (word, after) in told)
    ]
    if question.kind == "yes or no":
        complete = said[0] == wanted[0]
    else:
        complete = sought <= set(said)
        kept = [word for word in kept if word in wanted or word not in asked]  # "the bell" for "it"
    left = iter(wanted)
    return complete and all(word in left for word in kept)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9]+", text.lower())


@cache
def phrasing() -> frozenset[str]:
    """The words that the grammars' answers have around their values: "gave", "has", "friend"."""
    lines = [
        line
        for _, grammar in (*chats(), *plots())
        for rule in grammar.rules.values()
        for line in rule.splitlines()
        if "=>" in line
    ]
    answers = [re.sub(r"\{[^}]*\}|<[^>]*>", " ", line.rpartition("=>")[2]) for line in lines]
    return frozenset(word for answer in answers for word in words(answer))


def faithfulness(asked: Sequence[Question], answer: Callable[[str], str]) -> list[dict[str, Any]]:
    """Rows of shares: of all answers, by the length of the telling and by what is asked for.

    answer: the reply to a message; it should be greedy, of MAX_NEW_TOKENS at most.
    """
    found: list[str] = []
    with Progress("faithfulness", len(asked)) as progress:
        for question in asked:
            found.append(judge(question, answer(question.message)))
            progress.update(len(found), f"{len(found)} answers")
    judged = list(zip(asked, found, strict=True))
    tellings = dict.fromkeys(question.telling for question in asked)
    return [
        _row("all", found),
        *(_row(name, [o for q, o in judged if q.telling == name]) for name in tellings),
        *(_row(name, [o for q, o in judged if q.kind == name]) for name in KINDS),
    ]


def _row(name: str, outcomes: list[str]) -> dict[str, Any]:
    n = len(outcomes)
    row: dict[str, Any] = {"questions": name, "n": n}
    for outcome in OUTCOMES:
        row |= share(outcome.replace(" ", "_"), outcomes.count(outcome), n)
    return row
