import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm import objectives
from tinymemorylm.objectives import (
    annealed,
    horizon_targets,
    linear_cross_entropy,
    relevance_loss,
    response_log_likelihood,
    target_weights,
    token_nll,
)


@pytest.fixture(params=[3, 512])
def chunk(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(objectives, "CHUNK", request.param)
    return request.param


def example(n: int = 11) -> tuple[torch.Tensor, ...]:
    generator = torch.Generator().manual_seed(n)
    hidden = torch.randn(n, 6, generator=generator).requires_grad_()
    unembedding = torch.randn(17, 6, generator=generator).requires_grad_()
    targets = torch.randint(0, 17, (n,), generator=generator)
    return hidden, unembedding, targets, torch.rand(n, generator=generator)


def test_linear_cross_entropy_equals_the_slow_reference_and_its_gradients(chunk: int):
    hidden, unembedding, targets, weights = example()
    slow = F.cross_entropy(hidden @ unembedding.T, targets, reduction="none")
    (2 * (slow * weights).sum()).backward()
    wanted = hidden.grad.clone(), unembedding.grad.clone()
    hidden.grad = unembedding.grad = None
    total, nll = linear_cross_entropy(hidden, unembedding, targets, weights)
    (2 * total).backward()
    torch.testing.assert_close(nll, slow.detach())
    torch.testing.assert_close(total, (slow * weights).sum())
    torch.testing.assert_close(hidden.grad, wanted[0])
    torch.testing.assert_close(unembedding.grad, wanted[1])


def test_token_nll_equals_the_slow_reference_and_its_gradients(chunk: int):
    hidden, unembedding, targets, weights = example()
    slow = F.cross_entropy(hidden @ unembedding.T, targets, reduction="none")
    (slow.square() * weights).sum().backward()
    wanted = hidden.grad.clone(), unembedding.grad.clone()
    hidden.grad = unembedding.grad = None
    nll = token_nll(hidden, unembedding, targets)
    (nll.square() * weights).sum().backward()
    torch.testing.assert_close(hidden.grad, wanted[0])
    torch.testing.assert_close(unembedding.grad, wanted[1])
    assert token_nll(hidden[:0], unembedding, targets[:0]).shape == (0,)


def test_logits_of_a_whole_batch_never_exist_at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(objectives, "CHUNK", 64)
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            for tensor in torch.utils._pytree.tree_leaves(out):
                if isinstance(tensor, torch.Tensor):
                    largest = max(largest, tensor.numel())
            return out

    hidden = torch.randn(1000, 4, requires_grad=True)
    unembedding = torch.randn(300, 4, requires_grad=True)
    targets = torch.zeros(1000, dtype=torch.long)
    with Watch():
        linear_cross_entropy(hidden, unembedding, targets, torch.ones(1000))[0].backward()
        token_nll(hidden, unembedding, targets).sum().backward()
    assert largest == 64 * 300


def test_subtracting_the_log_boost_undoes_a_weighted_loss():
    """The optimum of a weighted loss is w p, normalised; adjusted, it is p again."""
    p = torch.tensor([0.5, 0.3, 0.2])
    boost = torch.tensor([1.0, 3.0, 1.0])
    biased = boost * p / (boost * p).sum()
    hidden, unembedding = torch.ones(3, 1), biased.log()[:, None]
    nll = token_nll(hidden, unembedding, torch.arange(3), boost.log())
    torch.testing.assert_close(nll, -p.log())


def test_horizon_targets_lie_k_ahead_and_never_in_another_document():
    tokens = torch.arange(10)[None]
    segments = torch.tensor([[0, 0, 0, 1, 1, 1, 1, 2, 2, 2]])
    targets, valid = horizon_targets(tokens, segments, 7, 2)
    assert targets.tolist() == [[2, 3, 4, 5, 6, 7, 8]]
    assert valid.tolist() == [[True, False, False, True, True, False, False]]


@given(st.floats(1, 10), st.floats(0.1, 1), st.floats(0, 1))
def test_annealed_boosts_fall_from_full_to_none(boost: float, anneal: float, progress: float):
    assert annealed(boost, None, progress) == boost
    assert annealed(boost, anneal, 0.0) == pytest.approx(boost)
    assert annealed(boost, anneal, 1.0) == 1
    assert 1 <= annealed(boost, anneal, progress) <= boost + 1e-9


def test_words_weigh_three_and_multiply_with_the_response_start():
    is_word = torch.tensor([False, True])
    targets = torch.tensor([[0, 1, 0, 1, 1]])
    valid = torch.tensor([[True, True, True, True, False]])
    plain = target_weights(targets, valid, is_word, 3.0)
    assert plain.tolist() == [[1, 3, 1, 3, 0]]
    index = torch.tensor([[0, 1, 2, 3, 4]])
    spoken = target_weights(targets, valid, is_word, 3.0, index, 3.0, 2)
    assert spoken.tolist() == [[0, 9, 3, 3, 0]]
    heard = target_weights(targets, valid, is_word, 3.0, index, 3.0, 2, prompt_weight=0.5)
    assert heard.tolist() == [[0.5, 9, 3, 3, 0]]


def test_relevance_is_the_cross_entropy_of_picking_the_true_prompt():
    scores = torch.tensor([[-1.0, -1.0], [0.0, -100.0]])
    assert relevance_loss(scores).item() == pytest.approx(math.log(2) / 2)


def test_response_log_likelihood_is_a_mean_over_the_response_alone():
    nll = torch.tensor([[5.0, 1.0, 3.0], [9.0, 9.0, 2.0]])
    spoken = torch.tensor([[False, True, True], [False, False, True]])
    assert response_log_likelihood(nll, spoken).tolist() == [-2.0, -2.0]
