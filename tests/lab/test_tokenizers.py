"""The lab's BPE and unigram: exact size, lossless, usable wherever ours is."""

from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.errors import InputError
from tinymemorylm.lab.tokenizers import SubwordTokenizer, load_kind, train_kind, train_subwords
from tinymemorylm.packing import pack_documents, spell_words
from tinymemorylm.tokenizer import SPECIAL_TOKENS, Message

KINDS: tuple[Literal["bpe", "unigram"], ...] = ("bpe", "unigram")


@pytest.fixture(scope="session")
def subwords(texts: list[str]) -> dict[str, SubwordTokenizer]:
    return {kind: train_subwords(texts, kind, 512) for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
@given(text=st.text())
def test_every_text_comes_back(kind: str, text: str, subwords):
    tokenizer = subwords[kind]
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert sum(int(tokenizer.byte_lengths[id]) for id in ids) == len(text.encode())
    assert not set(ids) & set(range(len(SPECIAL_TOKENS)))


@pytest.mark.parametrize("kind", KINDS)
def test_control_tokens_in_a_text_stay_text(kind: str, subwords):
    text = "".join(SPECIAL_TOKENS)
    assert min(subwords[kind].encode(text)) >= len(SPECIAL_TOKENS)
    assert subwords[kind].decode(subwords[kind].encode(text)) == text


@pytest.mark.parametrize("kind", KINDS)
def test_it_has_our_size_and_control_tokens(kind: str, subwords, tokenizer):
    ours, theirs = tokenizer, subwords[kind]
    assert theirs.vocab_size == ours.vocab_size == len(theirs.classes)
    assert theirs.encode_chat([Message("user", "")]) == ours.encode_chat([Message("user", "")])
    assert [theirs.token_bytes(i) for i in range(6)] == [b""] * 6
    assert (theirs.classes == 2).sum() > 200


@pytest.mark.parametrize("kind", KINDS)
def test_it_spends_fewer_tokens_than_bytes(kind: str, subwords, texts: list[str]):
    tokens = sum(map(len, subwords[kind].encode_batch(texts[:20])))
    assert tokens < sum(len(text.encode()) for text in texts[:20]) * 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_saved_and_loaded(kind: Literal["bpe", "unigram"], subwords, tmp_path: Path):
    subwords[kind].save(tmp_path / "tokenizer.json")
    loaded = load_kind(tmp_path / "tokenizer.json", kind)
    assert loaded.sha256 == subwords[kind].sha256
    assert loaded.encode("Once upon a time") == subwords[kind].encode("Once upon a time")


def test_training_bpe_is_deterministic(subwords, texts: list[str]):
    assert train_kind(texts, "bpe", 512).sha256 == subwords["bpe"].sha256


@pytest.mark.parametrize("kind", KINDS)
def test_it_packs_and_spells(kind: str, subwords, texts: list[str], tmp_path: Path):
    tokenizer = subwords[kind]
    counts = pack_documents(
        texts,
        tokenizer,
        tmp_path,
        n_documents=len(texts),
        validation_share=0.1,
        spell_share=0.0,
        seed=0,
    )
    assert counts["train_tokens"] > counts["validation_tokens"] > 0
    ids = tokenizer.encode("the cat")
    spelled = spell_words(ids, tokenizer, 1.0, np.random.default_rng(0)) & 0x7FFF
    assert tokenizer.decode(spelled.tolist()) == "the cat" and len(spelled) == 7


@pytest.mark.parametrize("kind", KINDS)
def test_too_little_text_is_an_input_error(kind: Literal["bpe", "unigram"]):
    with pytest.raises(InputError, match=f"too small for 2133 {kind} tokens"):
        train_subwords(["a little text"], kind, 2133)
    with pytest.raises(InputError, match="vocabulary size 100 is too small"):
        train_subwords(["a little text"], kind, 100)
