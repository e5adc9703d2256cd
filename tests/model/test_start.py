"""How a model starts: it copies before its first step, and like tokens have like rows."""

import pytest
import torch

from tinymemorylm.config import preset
from tinymemorylm.errors import InputError
from tinymemorylm.model.start import copying_heads, initialise, kindred_embedding
from tinymemorylm.model.transformer import Transformer


def repetition_accuracy(model: Transformer, seed: int) -> float:
    """Share of the tokens of a random passage's second saying that the model expects."""
    generator = torch.Generator().manual_seed(seed)
    said = torch.randint(6, model.config.vocab_size, (16, 20), generator=generator)
    with torch.no_grad():
        expected = model.logits(model(torch.cat((said, said), dim=1))).argmax(-1)
    return float((expected[:, 20:-1] == said[:, 1:]).float().mean())


@pytest.mark.parametrize("name", ["haiku", "haiku-literal"])
def test_copying_heads_copy_before_the_first_step(name: str):
    model = initialise(Transformer(preset(name)), 0)
    assert repetition_accuracy(model, 1) < 0.02
    assert repetition_accuracy(copying_heads(model, 0), 1) > 0.15


def test_copying_heads_change_no_shape_and_no_sharing():
    plain = initialise(Transformer(preset("haiku")), 0)
    planted = copying_heads(initialise(Transformer(preset("haiku")), 0), 0)
    for (name, a), (_, b) in zip(plain.named_parameters(), planted.named_parameters(), strict=True):
        assert a.shape == b.shape and torch.isfinite(b).all(), name


@pytest.mark.parametrize("name", ["smoke", "haiku"])
def test_starts_are_functions_of_the_seed(name: str):
    follows = torch.rand(preset(name).vocab_size, preset(name).vocab_size)
    states = []
    for seed in (1, 1, 2):
        model = initialise(Transformer(preset(name)), seed)
        kindred_embedding(copying_heads(model, seed), follows, seed)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    assert not torch.equal(states[0]["embedding.weight"], states[2]["embedding.weight"])


def test_an_architecture_without_room_for_copying_heads_is_refused():
    config = preset("smoke", n_logical_layers=2, n_unique_layers=2)
    with pytest.raises(InputError, match="no room for copying heads"):
        copying_heads(initialise(Transformer(config), 0), 0)


def test_tokens_of_like_company_get_like_rows_of_the_usual_size():
    config = preset("smoke")
    follows = torch.zeros(config.vocab_size, config.vocab_size)
    names, verbs, objects = range(300, 330), range(330, 360), range(360, 390)
    generator = torch.Generator().manual_seed(0)
    for first, second in ((names, verbs), (verbs, objects), (objects, names)):
        block = torch.randint(0, 3, (len(first), len(second)), generator=generator)
        follows[first.start : first.stop, second.start : second.stop] = block.float()
    model = kindred_embedding(initialise(Transformer(config), 0), follows, 0)
    rows = torch.nn.functional.normalize(model.embedding.weight.detach()[300:390], dim=1)
    likeness = rows @ rows.T
    within = torch.stack([likeness[i : i + 30, i : i + 30].mean() for i in (0, 30, 60)]).mean()
    assert within > 0.2 and within > likeness.mean() + 0.15
    sizes = model.embedding.weight.detach().norm(dim=1)
    assert 0.5 < float(sizes[300:390].mean() / sizes[100:250].mean()) < 2
