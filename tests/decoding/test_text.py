import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.decoding.text import TextAssembler, finished, stream_text
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Tokenizer


def assembled(assembler: TextAssembler, chunks: list[bytes]) -> list[str]:
    pieces = []
    for chunk in chunks:
        pieces.append(assembler.add(chunk))
        if assembler.stopped:
            return pieces
    return [*pieces, assembler.add(b"", final=True)]


@given(st.lists(st.binary(max_size=5)))
def test_pieces_join_to_the_decoded_whole_whatever_the_bytes(chunks: list[bytes]):
    whole = b"".join(chunks).decode(errors="replace")
    assert "".join(assembled(TextAssembler(), chunks)) == whole


@given(st.text(max_size=20), st.data())
def test_no_piece_holds_half_of_a_character(text: str, data: st.DataObject):
    spelled = text.encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(spelled)), max_size=6)))
    edges = [0, *cuts, len(spelled)]
    chunks = [spelled[a:b] for a, b in itertools.pairwise(edges)]
    pieces = assembled(TextAssembler(), chunks)
    assert "".join(pieces) == text
    assert "\ufffd" not in "".join(pieces) or "\ufffd" in text


@given(st.text("ab", max_size=30), st.lists(st.text("ab", min_size=1, max_size=4), max_size=3))
def test_text_ends_before_the_first_stop_string_and_none_of_it_leaks(text: str, stop: list[str]):
    assembler = TextAssembler(stop)
    given_out = "".join(assembled(assembler, [c.encode() for c in text]))
    ends = [i for i in range(len(text) + 1) if any(text[:i].endswith(s) for s in stop)]
    if not ends:
        assert given_out == text and not assembler.stopped
    else:  # letter by letter, the first stop string to be complete ends it
        seen = text[: ends[0]]
        assert given_out == seen[: min(seen.find(s) for s in stop if s in seen)]
        assert assembler.stopped


def test_a_stream_is_what_its_pieces_join_to(tokenizer: Tokenizer):
    ids = [*tokenizer.encode("the cat — so"), tokenizer.eos_id, *tokenizer.encode("more")]
    stream = stream_text(((id, 0.5) for id in ids), tokenizer, prompt_tokens=3)
    done = finished(stream)
    assert (done.text, done.finish_reason) == ("the cat — so", "stop")
    assert done.completion_tokens == len(done.nll) == len(ids) - 1 - len(tokenizer.encode("more"))
    assert done.prompt_tokens == 3


def test_a_bad_request_is_told_before_the_first_piece(tokenizer: Tokenizer):
    for settings in ({"max_new_tokens": 0}, {"stop": [""]}):
        with pytest.raises(InputError):
            stream_text([], tokenizer, prompt_tokens=1, **settings)
