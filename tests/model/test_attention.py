import pytest
import torch
import torch.nn.functional as F

from tinymemorylm.config import preset
from tinymemorylm.model.attention import (
    QUERY_BLOCK,
    causal_mask,
    rotary_tables,
    rotate,
    window_masks,
    windowed_attention,
)


def brute_force_mask(seq: int, window: int, segments: torch.Tensor) -> torch.Tensor:
    allowed = torch.zeros(len(segments), 1, seq, seq, dtype=torch.bool)
    for b in range(len(segments)):
        for i in range(seq):
            for j in range(i + 1):
                allowed[b, 0, i, j] = i - j < window and segments[b, i] == segments[b, j]
    return allowed


def segments_of(seq: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seq)
    return (torch.rand(2, seq, generator=generator) < 0.02).cumsum(1)


def test_causal_mask_equals_brute_force():
    segments = segments_of(60)
    assert torch.equal(causal_mask(segments) == 0, brute_force_mask(60, 60, segments))


@pytest.mark.parametrize("seq", [QUERY_BLOCK - 1, QUERY_BLOCK + 1, 2 * QUERY_BLOCK, 600])
@pytest.mark.parametrize("with_segments", [False, True])
def test_windowed_attention_equals_full_attention_under_the_brute_force_mask(
    seq: int, with_segments: bool
):
    window = 70
    generator = torch.Generator().manual_seed(0)
    q = torch.randn(2, 4, seq, 8, generator=generator)
    k = torch.randn(2, 2, seq, 8, generator=generator)
    v = torch.randn(2, 2, seq, 8, generator=generator)
    segments = segments_of(seq) if with_segments else torch.zeros(2, seq, dtype=torch.long)
    wanted = F.scaled_dot_product_attention(
        q, k, v, attn_mask=brute_force_mask(seq, window, segments), enable_gqa=True
    )
    masks = window_masks(seq, window, segments if with_segments else None, q.device)
    torch.testing.assert_close(windowed_attention(q, k, v, masks), wanted)


def test_window_masks_grow_with_the_sequence_not_its_square():
    def elements(seq: int) -> int:
        return sum(mask.numel() for mask in window_masks(seq, 512, None, torch.device("cpu")))

    assert elements(8192) < 4.5 * elements(2048)


def test_rotary_turns_the_first_dimensions_only_and_by_relative_position():
    config = preset("haiku")
    cos, sin = rotary_tables(config)
    generator = torch.Generator().manual_seed(1)
    q = torch.randn(1, 1, 1, config.head_dim, generator=generator)
    k = torch.randn(1, 1, 1, config.head_dim, generator=generator)

    def turned(x: torch.Tensor, position: int) -> torch.Tensor:
        return rotate(x, cos[position : position + 1], sin[position : position + 1])

    at_5_and_2 = (turned(q, 5) * turned(k, 2)).sum()
    at_105_and_102 = (turned(q, 105) * turned(k, 102)).sum()
    torch.testing.assert_close(at_5_and_2, at_105_and_102)
    assert torch.equal(turned(q, 7)[..., config.rotary_dims :], q[..., config.rotary_dims :])
    assert torch.equal(turned(q, 0), q)
