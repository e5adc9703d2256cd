from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinymemorylm import packing
from tinymemorylm.batches import TokenStream
from tinymemorylm.errors import InputError
from tinymemorylm.packing import (
    NOT_A_TARGET,
    pack_conversations,
    pack_documents,
    spell_words,
    split_span,
    validation_documents,
)
from tinymemorylm.tokenizer import Message, Tokenizer

SETTINGS = {"validation_share": 0.1, "seed": 4}


def read_back(folder: Path, name: str, tokenizer: Tokenizer) -> list[str]:
    stream = TokenStream(folder, name)
    return [
        tokenizer.decode((ids & ~NOT_A_TARGET).tolist(), skip_special=True)
        for ids in stream.documents(tokenizer.bos_id)
    ]


@pytest.mark.parametrize("spell_share", [0.0, 0.3])
def test_every_document_comes_back_whole_in_exactly_one_split(
    texts: list[str], tokenizer: Tokenizer, tmp_path: Path, spell_share: float
):
    counts = pack_documents(
        texts, tokenizer, tmp_path, n_documents=len(texts), spell_share=spell_share, **SETTINGS
    )
    train, held_out = (read_back(tmp_path, n, tokenizer) for n in ("train", "validation"))
    chosen = validation_documents(len(texts), 0.1, 4)
    assert train == [t for i, t in enumerate(texts) if i not in chosen]
    assert held_out == [t for i, t in enumerate(texts) if i in chosen]
    assert len(held_out) == round(len(texts) * 0.1)
    assert counts["train_bytes"] == sum(len(t.encode()) for t in train)
    assert counts["documents"] == len(texts)


def test_few_documents_are_split_by_span(texts: list[str], tokenizer: Tokenizer, tmp_path: Path):
    book = "\n".join(texts)
    pack_documents([book], tokenizer, tmp_path, n_documents=1, spell_share=0.0, **SETTINGS)
    (train,), (held_out,) = (read_back(tmp_path, n, tokenizer) for n in ("train", "validation"))
    assert train + held_out == book and train.endswith("\n")
    assert 0.08 < len(held_out) / len(book) < 0.1


@given(st.text(max_size=300), st.floats(0.01, 0.5))
def test_a_split_span_loses_nothing(text: str, share: float):
    assert "".join(split_span(text, share)) == text


def test_streams_are_the_same_however_they_are_cut_into_shards(
    texts: list[str], tokenizer: Tokenizer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    kept = {}
    for size in (100, 1 << 24):
        monkeypatch.setattr(packing, "SHARD_TOKENS", size)
        folder = tmp_path / str(size)
        pack_documents(
            texts, tokenizer, folder, n_documents=len(texts), spell_share=0.1, **SETTINGS
        )
        stream = TokenStream(folder, "train")
        kept[size] = stream.read(0, len(stream))
        assert np.array_equal(stream.read(90, 350), kept[size][90:350])
    assert len(list((tmp_path / "100").glob("train-*.bin"))) > 5
    assert np.array_equal(*kept.values())


@settings(deadline=None)
@given(st.integers(0, 100), st.floats(0, 1))
def test_spelled_words_keep_the_text_and_never_begin_a_target(
    tokenizer: Tokenizer, texts: list[str], seed: int, share: float
):
    ids = tokenizer.encode(texts[seed % len(texts)])
    stored = spell_words(ids, tokenizer, share, np.random.default_rng(seed))
    tokens, marked = stored & ~NOT_A_TARGET, stored >= NOT_A_TARGET
    assert tokenizer.decode(tokens.tolist()) == tokenizer.decode(ids)
    assert np.all(tokenizer.classes[tokens[marked]] == 1)
    spelled_types = {i for i in ids if tokenizer.classes[i] == 2} - set(tokens.tolist())
    assert marked.sum() == len(spelled_types)  # each where it is first spelled, and only there
    if share == 1:
        assert not np.any(tokenizer.classes[tokens] == 2)
    if share == 0:
        assert not marked.any()


def test_about_the_asked_share_of_words_is_spelled(tokenizer: Tokenizer, texts: list[str]):
    rng = np.random.default_rng(0)
    words = whole = 0
    for text in texts * 3:
        ids = tokenizer.encode(text)
        stored = spell_words(ids, tokenizer, 0.02, rng) & ~NOT_A_TARGET
        words += (tokenizer.classes[np.array(ids)] == 2).sum()
        whole += (tokenizer.classes[stored] == 2).sum()
    assert 0.01 < 1 - whole / words < 0.03


def test_conversations_come_back_by_the_template(
    chats: list[list[Message]], tokenizer: Tokenizer, tmp_path: Path
):
    pack_conversations(
        chats, tokenizer, tmp_path, n_conversations=len(chats), spell_share=0.0, **SETTINGS
    )
    stream = TokenStream(tmp_path, "train")
    chosen = validation_documents(len(chats), 0.1, 4)
    wanted = [tokenizer.encode_chat(c) for i, c in enumerate(chats) if i not in chosen]
    assert [ids.tolist() for ids in stream.documents(tokenizer.bos_id)] == wanted


def test_an_empty_split_is_an_error(tokenizer: Tokenizer, tmp_path: Path):
    with pytest.raises(InputError, match="leaves nothing for train"):
        pack_documents(iter(()), tokenizer, tmp_path, n_documents=0, spell_share=0, **SETTINGS)


def test_shards_that_are_not_to_the_bit_what_was_packed_are_an_error(
    texts: list[str], tokenizer: Tokenizer, tmp_path: Path
):
    pack_documents(texts, tokenizer, tmp_path, n_documents=len(texts), spell_share=0.0, **SETTINGS)
    shard, index = tmp_path / "train-00000.bin", tmp_path / "train.json"
    whole = shard.read_bytes()
    flipped = bytes([whole[0] ^ 1]) + whole[1:]
    for content in (whole[:-10], flipped, b"", None):
        if content is None:
            shard.unlink()
        else:
            shard.write_bytes(content)
        with pytest.raises(InputError, match=r"train-00000.bin is missing or damaged; delete"):
            TokenStream(tmp_path, "train")
    shard.write_bytes(whole)
    for content in ("", "[]", '{"shards": 1000000000000}'):
        index.write_text(content)
        with pytest.raises(InputError, match=r"train.json"):
            TokenStream(tmp_path, "train")
