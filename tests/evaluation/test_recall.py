import re
from collections import Counter
from itertools import pairwise

import pytest
import torch

from tinymemorylm.evaluation import recall as recall_module
from tinymemorylm.evaluation.recall import (
    KINDS,
    N_CANDIDATES,
    TIMES_TRUE,
    Question,
    answered,
    questions,
    recall,
    sentences,
)
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def asked(tokenizer: Tokenizer) -> list[Question]:
    return questions(tokenizer, 400)


def test_every_candidate_is_as_often_the_answer(asked: list[Question]):
    assert len(asked) == len(KINDS) * N_CANDIDATES * TIMES_TRUE
    for kind in KINDS:
        of_kind = [q for q in asked if q.kind == kind]
        assert len({q.candidates for q in of_kind}) == 1
        times = Counter(q.truth for q in of_kind)
        assert times == dict.fromkeys(range(N_CANDIDATES), TIMES_TRUE)


def test_no_candidate_begins_another(asked: list[Question]):
    for question in asked:
        for word in question.candidates:
            assert sum(other.startswith(word) for other in question.candidates) == 1


def test_the_stories_between_mention_nothing_of_the_fact(asked: list[Question]):
    for question in asked:
        held = set(re.findall(r"\w+", question.between(400).lower()))
        assert len(held) > 60
        assert not held & {word.lower() for word in question.fact.values()}


def test_a_longer_distance_only_adds_whole_sentences(asked: list[Question], tokenizer: Tokenizer):
    for question in asked[::7]:
        for near, far in pairwise(question.between(d) for d in (0, 64, 128, 256)):
            assert far.startswith(near)
        for distance in (128, 256):
            text = question.between(distance)
            assert distance / 3 < len(tokenizer.encode(text)) <= distance
            assert re.search(r"[.!?]\"?$", text) and text.count('"') % 2 == 0


def test_sentences_join_to_their_text_and_leave_quotations_whole():
    text = '\nAnn ran. "Stop! Wait," said Bo. "I am here!" cried Ann.\nThey met.'
    cut = list(sentences(text))
    assert cut == [
        "\nAnn ran.",
        ' "Stop! Wait," said Bo.',
        ' "I am here!" cried Ann.',
        "\nThey met.",
    ]


def test_prompts_end_where_the_answer_begins(asked: list[Question], tokenizer: Tokenizer):
    fact = {"name": "Tamsu", "thing": "ball", "color": "red"}
    for kind, (chat, going_on) in {
        "name": ("Who has the ball?<|assistant|>Tamsu", "Now the ball belonged to Tamsu"),
        "thing": ("What does Tamsu have?<|assistant|>Tamsu has a red ball", "Tamsu held the ball"),
        "color": (
            "What color is the ball?<|assistant|>The ball is red",
            "The ball that Tamsu had was red",
        ),
    }.items():
        question = Question(kind, fact, (fact[kind],), (("\nIt rained.", 4), (" Bo fell.", 99)))
        for in_chat, wanted in ((True, chat), (False, going_on)):
            ids = question.prompt(tokenizer, 10, in_chat) + question.answers(tokenizer, in_chat)[0]
            told = "<|user|>Tamsu has" if in_chat else "Tamsu had"
            assert tokenizer.decode(ids) == f"<bos>{told} a red ball.\nIt rained. {wanted}"
            if not in_chat:  # the answer is tokenized as it would be in the text
                text = tokenizer.decode(ids, skip_special=True)
                assert ids == [tokenizer.bos_id, *tokenizer.encode(text)]


@torch.no_grad()
def test_likeliest_and_greedy_are_those_of_the_whole_sequences(
    model: Transformer, tokenizer: Tokenizer, asked: list[Question]
):
    scorer = Scorer(model, tokenizer)
    hits = []
    for question in asked[::10]:
        prompt = question.prompt(tokenizer, 64, True)
        answers = question.answers(tokenizer, True)
        nats, greedy = [], []
        for ids in answers:
            logits = model.logits(model(torch.tensor([prompt + ids])))[0, len(prompt) - 1 : -1]
            nats.append(-float(logits.log_softmax(-1)[range(len(ids)), ids].sum()))
            greedy.append(logits.argmax(-1).tolist() == ids)
        for truth in range(N_CANDIDATES):
            wanted = nats[truth] == min(nats), greedy[truth]
            assert answered(scorer, prompt, answers, truth) == wanted
            hits.append(wanted[0])
    assert sum(hits) == len(hits) / N_CANDIDATES


def test_a_model_that_knows_nothing_is_at_chance_and_rows_stay_within_the_context(
    model: Transformer, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(recall_module, "DISTANCES", (0, 64, 100_000))
    monkeypatch.setattr(recall_module, "TIMES_TRUE", 2)
    scorer = Scorer(model, tokenizer)
    rows = recall(scorer, chat=False)
    assert [row["distance"] for row in rows] == [0, 64]
    for row in rows:
        assert row["questions"] == 48 and row["tokens"] <= row["distance"]
        assert row["accuracy_low"] < row["chance"] < row["accuracy_high"]
        assert row["accuracy"] == pytest.approx(sum(row[kind] for kind in KINDS) / 3, abs=1e-3)
    assert recall(scorer, chat=False) == rows
