import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.relevance import derangement, last_exchange, relevance
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Message, Tokenizer


def exchange(question: str, answer: str) -> list[Message]:
    return [Message("user", question), Message("assistant", answer)]


@settings(deadline=None)  # the first example alone sets up NumPy's generators
@given(st.lists(st.integers(0, 6), max_size=40), st.integers(0, 9))
def test_every_prompt_is_used_once_and_never_for_an_equal_response(keys: list[int], seed: int):
    others = derangement(keys, seed)
    if any(2 * keys.count(key) > len(keys) for key in keys):
        assert others is None
    elif keys:
        assert others is not None
        assert sorted(others) == list(range(len(keys)))
        assert all(key != keys[other] for key, other in zip(keys, others, strict=True))


def test_a_seed_decides_the_exchange():
    first, again, other = (derangement(range(50), seed).tolist() for seed in (1, 1, 2))  # type: ignore
    assert first == again != other


def test_the_last_assistant_turn_is_asked_by_all_before_it(tokenizer: Tokenizer):
    messages = [*exchange("Hi.", "Hello!"), *exchange("What é?", "A lettér.")]
    found = last_exchange(tokenizer, [*messages, Message("user", "Thanks.")])
    assert found.prompt + found.response + [tokenizer.eos_id] == tokenizer.encode_chat(messages)
    assert tokenizer.decode(found.response) == "A lettér." and found.n_bytes == 10


@torch.no_grad()
def test_bits_equal_those_of_one_response_at_a_time(
    model: Transformer, tokenizer: Tokenizer, chats: list[list[Message]]
):
    chats = [chat for chat in chats if len(tokenizer.encode_chat(chat)) < 120][:30]
    exchanges = [last_exchange(tokenizer, chat) for chat in chats]
    others = derangement([tuple(e.response) for e in exchanges], 4)
    assert others is not None

    def bits(prompt: list[int], response: list[int]) -> float:
        logits = model.logits(model(torch.tensor([prompt + response])))[0, len(prompt) - 1 : -1]
        nats = F.cross_entropy(logits, torch.tensor(response), reduction="sum")
        return float(nats) / math.log(2)

    n_bytes = sum(len(chat[-1].content.encode()) for chat in chats)
    true = sum(bits(e.prompt, e.response) for e in exchanges) / n_bytes
    shuffled = sum(
        bits(exchanges[other].prompt, e.response)
        for e, other in zip(exchanges, others, strict=True)
    )
    shuffled /= n_bytes
    row = relevance(Scorer(model, tokenizer), chats, "chats.jsonl", seed=4)
    assert row["bits_per_byte"] == pytest.approx(true, rel=1e-5)
    assert row["shuffled_bits_per_byte"] == pytest.approx(shuffled, rel=1e-5)
    assert row["gain"] == pytest.approx(shuffled - true, abs=2e-5)
    assert row["low"] < row["gain"] < row["high"]
    assert (row["path"], row["n"], row["left_out"]) == ("chats.jsonl", 30, 0)
    assert row["bytes"] == n_bytes


def test_what_exceeds_the_context_is_left_out_and_counted(model: Transformer, tokenizer: Tokenizer):
    long = "so " * model.config.context_length
    chats = [
        exchange("Hi.", "Hello!"),
        exchange("Bye.", "Goodbye!"),
        exchange(long, "Yes."),
        exchange("Why?", long),
    ]
    row = relevance(Scorer(model, tokenizer), chats, "x")
    assert (row["n"], row["left_out"], row["bytes"]) == (2, 2, len("Hello!Goodbye!"))
    # Both fit, but the long response doesn't fit under the long prompt.
    half = "so " * (model.config.context_length // 2 + 5)
    row = relevance(Scorer(model, tokenizer), [exchange(half, "Yes."), exchange("Why?", half)], "x")
    assert (row["n"], row["left_out"], row["bytes"]) == (1, 1, len("Yes."))


def test_equal_responses_have_no_other_prompts(model: Transformer, tokenizer: Tokenizer):
    chats = [exchange(f"Question {i}?", "Yes.") for i in range(3)] + [exchange("Hi.", "Hello!")]
    with pytest.raises(InputError, match=r"x\.jsonl: the prompts of its 4 conversations can't be"):
        relevance(Scorer(model, tokenizer), chats, "x.jsonl")
