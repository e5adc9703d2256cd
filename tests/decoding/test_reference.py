import numpy as np
import pytest
import torch

from tinymemorylm.config import preset
from tinymemorylm.decoding import reference
from tinymemorylm.decoding.reference import generate, stream_tokens
from tinymemorylm.decoding.sampling import Sampling
from tinymemorylm.errors import InputError
from tinymemorylm.model.start import initialise
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer

GREEDY = Sampling(temperature=0)


def uncached_greedy(model: Transformer, prompt: list[int], n: int) -> list[int]:
    ids = list(prompt)
    with torch.no_grad():
        for _ in range(n):
            ids.append(int(model.logits(model(torch.tensor([ids])))[0, -1].argmax()))
    return ids[len(prompt) :]


@pytest.mark.parametrize("prompt_tokens", [1, 30, 130])
def test_greedy_decoding_equals_decoding_without_a_cache(
    model: Transformer, random_tokens: torch.Tensor, prompt_tokens: int, monkeypatch
):
    monkeypatch.setattr(reference, "PREFILL_BLOCK", 50)
    prompt = random_tokens[0, :prompt_tokens].tolist()
    stream = stream_tokens(model, prompt, GREEDY)
    assert [next(stream)[0] for _ in range(40)] == uncached_greedy(model, prompt, 40)


def test_nll_is_of_the_model_itself_whatever_the_sampling(
    model: Transformer, random_tokens: torch.Tensor
):
    prompt = random_tokens[0, :20].tolist()
    stream = stream_tokens(model, prompt, Sampling(0.3, top_k=5, seed=2))
    drawn = [next(stream) for _ in range(10)]
    ids = torch.tensor([prompt + [token for token, _ in drawn]])
    with torch.no_grad():
        log_p = model.logits(model(ids)).log_softmax(-1)[0]
    wanted = [-float(log_p[19 + i, token]) for i, (token, _) in enumerate(drawn)]
    np.testing.assert_allclose([nats for _, nats in drawn], wanted, rtol=1e-3, atol=1e-4)


def test_a_seed_decides_the_text(model: Transformer, tokenizer: Tokenizer):
    ids = [1, *tokenizer.encode("Once upon a time")]

    def text(seed: int) -> str:
        return generate(model, tokenizer, ids, Sampling(seed=seed), max_new_tokens=30).text

    assert text(1) == text(1) != text(2)


def test_it_stops_where_asked(model: Transformer, tokenizer: Tokenizer):
    ids = [1, *tokenizer.encode("Once")]
    whole = generate(model, tokenizer, ids, Sampling(seed=1), max_new_tokens=40)
    assert whole.completion_tokens == len(whole.token_ids) <= 40
    stop = whole.text[10:13]
    cut = generate(model, tokenizer, ids, Sampling(seed=1), max_new_tokens=40, stop=(stop,))
    assert cut.finish_reason == "stop"
    assert cut.text == whole.text[: whole.text.find(stop)]


def test_control_tokens_end_the_text_and_stay_out_of_it(model: Transformer, tokenizer: Tokenizer):
    push = torch.zeros(512)
    push[:6] = -50.0  # subtracted: makes <eos> and its like certain
    done = generate(model, tokenizer, [1], Sampling(), log_boost=push)
    assert (done.text, done.token_ids, done.finish_reason) == ("", [], "stop")


def test_the_context_ends_generation(tokenizer: Tokenizer):
    model = initialise(Transformer(preset("smoke", context_length=32)), 0).eval()
    forbid = torch.zeros(512)
    forbid[:6] = 1e4
    done = generate(model, tokenizer, [1] * 20, Sampling(), max_new_tokens=99, log_boost=forbid)
    assert done.finish_reason == "length" and done.completion_tokens == 12


def test_bad_requests_name_the_value(model: Transformer, tokenizer: Tokenizer):
    for prompt, settings, message in [
        ([], {}, "no tokens"),
        ([1] * 256, {}, "the prompt is 256 tokens"),
        ([1], {"max_new_tokens": 0}, "max_new_tokens"),
        ([1], {"stop": ("",)}, "stop string is empty"),
    ]:
        with pytest.raises(InputError, match=message):
            generate(model, tokenizer, prompt, Sampling(), **settings)
