import itertools
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from tinymemorylm.corpus.storyworld import stories
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.evaluation.storyworld import StoryScores, gap, score_stories
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@torch.no_grad()
def test_a_story_and_its_end_are_scored_on_both_sides(model: Transformer, tokenizer: Tokenizer):
    told = list(itertools.islice(stories(5, 10**9), 4))
    size = model.config.context_length // 2
    scores = score_stories(Scorer(model, tokenizer), told)
    for i, one in enumerate(told):
        ids = [*tokenizer.encode(one.text), tokenizer.eos_id]
        nats = 0.0
        for start in range(0, len(ids), size):
            before = [tokenizer.bos_id] if start == 0 else ids[start - size : start]
            new = ids[start : start + size]
            logits = model.logits(model(torch.tensor([before + new])))[0, len(before) - 1 : -1]
            nats += float(F.cross_entropy(logits, torch.tensor(new), reduction="sum"))
        assert scores.model_bits[i] == pytest.approx(nats / math.log(2), rel=1e-5)
        assert scores.source_bits[i] == one.bits
        assert (scores.n_bytes[i], scores.n_tokens[i]) == (len(one.text.encode()), len(ids))
    assert len(tokenizer.encode(told[0].text)) > size  # more than a window


def test_a_model_that_is_the_source_has_no_gap_and_a_worse_one_has_its_own():
    told = list(stories(3, 50_000))
    bits, n_bytes = (np.array(x) for x in zip(*((s.bits, len(s.text)) for s in told), strict=True))
    exact = gap(StoryScores(bits, bits, n_bytes, n_bytes))
    assert (exact["gap"], exact["gap_percent"], exact["standard_error"]) == (0, 0, 0)
    assert exact["bits_per_byte"] == pytest.approx(bits.sum() / n_bytes.sum(), abs=1e-5)
    worse = gap(StoryScores(bits + 0.1 * n_bytes, bits, n_bytes, n_bytes))
    assert worse["gap"] == pytest.approx(0.1) and worse["standard_error"] < 1e-9
    assert worse["gap_percent"] == pytest.approx(10 / worse["source_bits_per_byte"], abs=0.01)


def test_the_error_shrinks_with_the_number_of_stories(model: Transformer, tokenizer: Tokenizer):
    scorer = Scorer(model, tokenizer)
    few, more = (gap(score_stories(scorer, stories(6, n))) for n in (3_000, 24_000))
    assert 0 < more["standard_error"] < few["standard_error"]
    assert gap(score_stories(scorer, stories(6, 1)))["standard_error"] is None
