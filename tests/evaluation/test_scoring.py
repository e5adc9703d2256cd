import pytest
import torch

from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.tokenizer import Tokenizer


@torch.no_grad()
@pytest.mark.parametrize("n_prompt", [1, 2, 90, 240])
def test_logits_after_a_prompt_are_those_of_each_whole_sequence(
    model: Transformer, tokenizer: Tokenizer, random_tokens: torch.Tensor, n_prompt: int
):
    ids = random_tokens.flatten().tolist()
    prompt, ends = ids[:n_prompt], [ids[-5:], ids[-2:-1], ids[-9:-6]]
    boost = torch.linspace(0, 1, tokenizer.vocab_size)
    found = Scorer(model, tokenizer, boost).logits_after(prompt, ends)
    for logits, end in zip(found, ends, strict=True):
        whole = model.logits(model(torch.tensor([prompt + end])))[0, n_prompt - 1 : -1]
        torch.testing.assert_close(logits, whole - boost, atol=1e-4, rtol=1e-4)
