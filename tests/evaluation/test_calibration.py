import pytest
import torch

from tinymemorylm.evaluation.bits_per_byte import windows
from tinymemorylm.evaluation.calibration import N_BINS, calibration
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@pytest.fixture
def sharp(model: Transformer) -> Transformer:
    """The random model, surer of itself, so that its confidences fall into many bins."""
    with torch.no_grad():
        model.final_norm.weight *= 8
    return model


@torch.no_grad()
def test_figures_equal_those_of_all_probabilities_at_once(
    sharp: Transformer, tokenizer: Tokenizer, texts: list[str]
):
    documents = ["\n".join(texts[:9]), texts[10]]
    log_boost = torch.linspace(0, 1, 512)
    confidence, hit = [], []
    for text in documents:
        for window in windows(tokenizer.encode(text), 1, sharp.config.context_length // 2):
            ids = torch.tensor(window.tokens)
            logits = sharp.logits(sharp(ids[None, :-1]))[0, -window.n_scored :] - log_boost
            best = logits.softmax(-1).max(-1)
            confidence.append(best.values)
            hit.append(best.indices == ids[-window.n_scored :])
    p, right = torch.cat(confidence), torch.cat(hit).double()
    found = calibration(Scorer(sharp, tokenizer, log_boost), documents)
    assert found["tokens"] == len(p) == sum(b["tokens"] for b in found["bins"])
    assert found["accuracy"] == pytest.approx(float(right.mean()), abs=1e-5)
    assert found["confidence"] == pytest.approx(float(p.mean()), abs=1e-5)
    error = 0.0
    for b in found["bins"]:
        inside = (p >= b["from"]) & (p < b["to"])
        assert b["tokens"] == int(inside.sum())
        assert b["accuracy"] == pytest.approx(float(right[inside].mean()), abs=1e-5)
        assert b["confidence"] == pytest.approx(float(p[inside].mean()), abs=1e-5)
        error += abs(float(right[inside].sum() - p[inside].sum())) / len(p)
    assert found["expected_calibration_error"] == pytest.approx(error, abs=2e-5)
    assert 5 < len(found["bins"]) <= N_BINS


def test_a_model_surer_than_it_is_right_has_that_as_its_error(
    sharp: Transformer, tokenizer: Tokenizer, texts: list[str]
):
    found = calibration(Scorer(sharp, tokenizer), texts[:5])
    overconfidence = found["confidence"] - found["accuracy"]
    assert overconfidence > 0.1
    assert found["expected_calibration_error"] == pytest.approx(overconfidence, abs=0.02)
