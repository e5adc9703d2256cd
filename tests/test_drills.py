import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.drills import Drills


@given(index=st.integers(0, 10**6), width=st.integers(1, 400))
def test_what_is_to_learn_has_been_said_before_in_the_same_drill(tokenizer, index, width):
    tokens, segments, is_target = Drills(tokenizer, 1.0, 0).row(index, width)
    assert len(tokens) == len(segments) == len(is_target) == width
    for segment in np.unique(segments):
        drill, learned = tokens[segments == segment], is_target[segments == segment]
        assert drill[0] == tokenizer.bos_id and not learned[0]
        first = int((~learned).sum())  # <bos> and the first saying
        assert np.array_equal(drill[first:], drill[1 : len(drill) - first + 1])
        assert tokenizer.decode(drill[1:].tolist()).isascii()
