import pytest
import torch

from tinymemorylm.training.muon import Muon, orthogonalised


@pytest.mark.parametrize("shape", [(3, 16, 40), (2, 40, 16), (1, 24, 24)])
def test_singular_values_come_near_one_and_singular_vectors_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    u, _, vh = torch.linalg.svd(matrices, full_matrices=False)
    result = u.mT @ orthogonalised(matrices) @ vh.mT
    values = result.diagonal(dim1=1, dim2=2)
    assert values.min() > 0.5 and values.max() < 1.3
    assert (result - torch.diag_embed(values)).abs().max() < 1e-2


def test_a_zero_gradient_moves_nothing():
    assert not orthogonalised(torch.zeros(2, 4, 6)).any()


def test_steps_are_those_of_torch_muon_to_the_precision_of_bfloat16():
    generator = torch.Generator().manual_seed(2)
    start = [torch.randn(shape, generator=generator) for shape in ((8, 12), (12, 8), (8, 12))]
    ours = [p.clone().requires_grad_() for p in start]
    theirs = [p.clone().requires_grad_() for p in start]
    settings = {"lr": 0.1, "momentum": 0.9, "weight_decay": 0.1}
    optimizers = (Muon(ours, **settings), torch.optim.Muon(theirs, **settings))
    for _ in range(3):
        for mine, other in zip(ours, theirs, strict=True):
            mine.grad = torch.randn(mine.shape, generator=generator)
            other.grad = mine.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for mine, other, before in zip(ours, theirs, start, strict=True):
        assert (mine - other).norm() < 0.02 * (mine - before).norm()
