import doctest
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import tinymemorylm
from tinymemorylm import language_model
from tinymemorylm.config import preset
from tinymemorylm.errors import InputError
from tinymemorylm.evaluation.bits_per_byte import score_documents
from tinymemorylm.language_model import LanguageModel
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import log_boost
from tinymemorylm.tokenizer import Message, Tokenizer


@pytest.fixture(scope="module")
def lm(finished_run: Path) -> LanguageModel:
    return tinymemorylm.load(finished_run)


def test_importing_the_package_imports_nothing_heavy():
    code = "import sys, tinymemorylm; print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "False False\n"


@pytest.mark.parametrize("module", [tinymemorylm, language_model])
def test_every_documented_example_runs_as_shown(module: Any, lm: LanguageModel, finished_run: Path):
    runner = doctest.DocTestRunner()
    globs = {"lm": lm, "directory": finished_run, "load": tinymemorylm.load, "Message": Message}
    for example in doctest.DocTestFinder(exclude_empty=True).find(module, globs=globs):
        runner.run(example)
    assert runner.summarize(verbose=False).failed == 0
    assert runner.tries >= 2


@pytest.mark.parametrize("seed", range(4))
def test_streamed_pieces_join_to_the_generated_text(lm: LanguageModel, seed: int):
    pieces = list(lm.stream("Once upon a time", seed=seed, temperature=1.5))
    assert "".join(pieces) == lm.generate("Once upon a time", seed=seed, temperature=1.5).text
    assert all(pieces) and len(pieces) > 1


def test_messages_are_answered_as_the_chat_template_has_them(lm: LanguageModel):
    conversation = [
        Message("system", "Be kind."),
        Message("user", "Hello!"),
        Message("assistant", "Hi."),
        Message("user", "What is a river?"),
    ]
    done = lm.generate(conversation, seed=4)
    assert done.prompt_tokens == len(lm.tokenizer.encode_chat(conversation, True))
    plain = [{"role": m.role, "content": m.content} for m in conversation]
    assert lm.chat(plain, seed=4) == done.text
    assert lm.chat("Hello!", seed=4) == lm.chat([Message("user", "Hello!")], seed=4)


def test_a_long_conversation_loses_its_oldest_exchanges_first(lm: LanguageModel):
    long = [
        *[Message("user", "the cat " * 3), Message("assistant", "sat " * 9)] * 40,
        Message("user", "Hello!"),
    ]
    done = lm.generate(long, seed=1, max_new_tokens=20)
    size = len(lm.tokenizer.encode_chat(long[-3:-1])) - 1
    assert lm.prompt_limit(20) - size < done.prompt_tokens <= lm.prompt_limit(20) == 236


@pytest.mark.parametrize("weights", [None, "pretrain"])
def test_the_score_is_the_one_of_bits_per_byte(finished_run: Path, texts: list[str], weights: Any):
    lm = tinymemorylm.load(finished_run, weights)
    text = "\n".join(texts[:6])
    assert len(lm.tokens(text)) > 2 * lm.context_length
    score = lm.score(text)
    protocol = score_documents(lm.scorer, [text])
    assert -score.logprob == pytest.approx(protocol.nats, rel=1e-12)
    assert score.bits_per_byte == pytest.approx(protocol.bits_per_byte, rel=1e-12)
    assert (score.n_bytes, len(score.tokens)) == (protocol.n_bytes, protocol.n_tokens)
    assert [t.id for t in score.tokens] == lm.tokenizer.encode(text)


def test_the_score_of_a_token_is_its_log_softmax(lm: LanguageModel):
    import torch

    ids = lm.tokenizer.encode("the cat sat")
    with torch.no_grad():
        logits = lm.model.logits(lm.model(torch.tensor([[lm.tokenizer.bos_id, *ids]])))[0]
    if lm.log_boost is not None:
        logits = logits - lm.log_boost
    wanted = logits.log_softmax(-1)[range(len(ids)), ids].tolist()
    assert [t.logprob for t in lm.score("the cat sat").tokens] == pytest.approx(wanted, abs=1e-4)


def test_weights_trained_with_a_boost_are_adjusted(tokenizer: Tokenizer):
    model = initialise(Transformer(preset("smoke")), 0).eval()
    plain = LanguageModel(model, tokenizer).score("the the the")
    adjusted = LanguageModel(model, tokenizer, log_boost(tokenizer, 3.0)).score("the the the")
    assert adjusted.logprob < plain.logprob


def test_no_text_scores_nothing(lm: LanguageModel):
    score = lm.score("")
    assert (score.logprob, score.tokens, score.bits_per_byte) == (0, [], 0)


def test_progress_counts_the_tokens(lm: LanguageModel):
    calls: list[tuple[int, int]] = []
    lm.score("the cat " * 300, lambda done, total: calls.append((done, total)))
    assert calls[-1][0] == calls[-1][1] and len(calls) > 1


@pytest.mark.parametrize(
    ("prompt", "options", "message"),
    [
        ("so " * 3000, {}, "the context holds 256"),
        ("x", {"temperature": -1.0}, "temperature"),
        ("x", {"max_new_tokens": 0}, "max_new_tokens"),
        ("x", {"stop": [""]}, "stop string is empty"),
        ("\ud800", {}, "surrogate"),
        ([], {}, "the last message must be the user's"),
        ([Message("user", "a"), Message("assistant", "b")], {}, "must be the user's"),
        ([Message("assistant", "a")], {}, "message 1 is the assistant's"),
        ([Message("user", "a"), Message("user", "b")], {}, "message 2 is the user's"),
        ([{"role": "wizard", "content": "a"}], {}, "unknown role 'wizard'"),
        ([{"role": "user"}], {}, "content is missing"),
        ([{"role": "user", "content": "so " * 300}], {}, "shorten it"),
    ],
)
def test_bad_requests_are_told_before_the_first_piece(
    lm: LanguageModel, prompt: Any, options: Any, message: str
):
    with pytest.raises(InputError, match=message):
        lm.stream(prompt, **options)


def test_a_stop_string_may_stand_alone(lm: LanguageModel):
    text = lm.generate("Once", seed=1).text
    assert lm.generate("Once", seed=1, stop=text[5:8]).text == text[: text.find(text[5:8])]


def test_a_device_that_is_not_there_is_named(finished_run: Path):
    with pytest.raises(InputError, match="'abacus'"):
        tinymemorylm.load(finished_run, device="abacus")
