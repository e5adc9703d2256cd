from pathlib import Path

import numpy as np
import pytest

from tinymemorylm.batches import (
    ChatBatches,
    RelevanceBatches,
    TextBatches,
    TokenStream,
    follow_counts,
    response_index,
)
from tinymemorylm.drills import Drills
from tinymemorylm.errors import InputError
from tinymemorylm.packing import pack_conversations, pack_documents
from tinymemorylm.tokenizer import Message, Tokenizer

AHEAD = 3


@pytest.fixture(scope="module")
def text_stream(
    texts: list[str], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> TokenStream:
    folder = tmp_path_factory.mktemp("text")
    pack_documents(
        texts,
        tokenizer,
        folder,
        n_documents=len(texts),
        validation_share=0.1,
        spell_share=0.05,
        seed=0,
    )
    return TokenStream(folder, "train")


@pytest.fixture(scope="module")
def chat_stream(
    chats: list[list[Message]], tokenizer: Tokenizer, tmp_path_factory: pytest.TempPathFactory
) -> TokenStream:
    folder = tmp_path_factory.mktemp("chat")
    pack_conversations(
        chats,
        tokenizer,
        folder,
        n_conversations=len(chats),
        validation_share=0.05,
        spell_share=0.0,
        seed=0,
    )
    return TokenStream(folder, "train")


def test_batches_are_a_function_of_position_alone(
    text_stream: TokenStream, chat_stream: TokenStream, tokenizer: Tokenizer
):
    for make in (
        lambda: TextBatches(text_stream, tokenizer.bos_id, 64, AHEAD, 7),
        lambda: ChatBatches(chat_stream, tokenizer, 96, AHEAD, 7),
    ):
        walked = make()
        many = [walked.batch(i * 4, 4) for i in range(150)]
        for i in (149, 3, 77):
            jumped = make().batch(i * 4, 4)
            assert np.array_equal(jumped.tokens, many[i].tokens)
            assert np.array_equal(jumped.segments, many[i].segments)


def test_an_epoch_of_windows_reads_every_token_at_most_once(
    text_stream: TokenStream, tokenizer: Tokenizer
):
    batches = TextBatches(text_stream, tokenizer.bos_id, 64, AHEAD, 1)
    starts = [batches._start(i) for i in range(batches.per_epoch)]
    assert len(set(starts)) == batches.per_epoch
    assert np.all(np.diff(sorted(starts)) == 64)
    assert batches.per_epoch * 64 >= len(text_stream) - 2 * 64 - AHEAD
    again = [batches._start(i) for i in range(batches.per_epoch, 2 * batches.per_epoch)]
    assert again != starts
    assert max(starts + again) + 64 + AHEAD <= len(text_stream)


def test_segments_change_exactly_at_bos(text_stream: TokenStream, tokenizer: Tokenizer):
    batch = TextBatches(text_stream, tokenizer.bos_id, 64, AHEAD, 1).batch(0, 8)
    assert batch.tokens.shape == (8, 64 + AHEAD)
    assert batch.tokens.max() < tokenizer.vocab_size
    changes = np.diff(batch.segments, axis=1)
    assert np.array_equal(changes == 1, batch.tokens[:, 1:] == tokenizer.bos_id)
    assert not batch.is_target.all()


def test_text_shorter_than_a_sequence_is_an_error(text_stream: TokenStream, tokenizer: Tokenizer):
    with pytest.raises(InputError, match="fewer than one sequence"):
        TextBatches(text_stream, tokenizer.bos_id, len(text_stream), AHEAD, 1)


def test_an_epoch_of_rows_holds_every_conversation_once(
    chat_stream: TokenStream, tokenizer: Tokenizer
):
    batches = ChatBatches(chat_stream, tokenizer, 128, AHEAD, 2)
    rows = batches._pack(0)
    assert sorted(n for row in rows for n in row) == list(range(len(batches.starts)))
    filled = sum(batches.lengths) / (128 * len(rows))
    assert filled > 0.85


def test_of_many_epochs_only_one_plan_is_kept_and_any_row_is_found(
    chat_stream: TokenStream, tokenizer: Tokenizer
):
    batches = ChatBatches(chat_stream, tokenizer, 128, AHEAD, 2)
    packed = [batches._pack(epoch) for epoch in range(5)]
    wanted = [row for plan in packed for row in plan]
    assert [batches._row(i) for i in range(len(wanted))] == wanted
    assert batches._row(3) == wanted[3] and batches._row(len(wanted) - 1) == wanted[-1]
    assert batches._plan == packed[4] and len(batches._ends) == 5


def test_response_index_is_what_the_chat_template_says(
    chats: list[list[Message]], chat_stream: TokenStream, tokenizer: Tokenizer
):
    for chat in chats[:40]:
        ids, wanted = tokenizer.encode_chat_with_targets(chat)
        assert response_index(np.array([ids]), tokenizer)[0].tolist() == wanted
    batch = ChatBatches(chat_stream, tokenizer, 128, AHEAD, 2).batch(0, 6)
    assert batch.response_index is not None
    assert np.all(batch.response_index[batch.segments < 0] == 0)
    starts = np.argwhere(batch.response_index == 1)
    assert all(batch.tokens[r, c - 1] == tokenizer.assistant_id for r, c in starts)


def test_relevance_groups_share_the_response_and_differ_in_the_prompt(
    chat_stream: TokenStream, tokenizer: Tokenizer
):
    chats = ChatBatches(chat_stream, tokenizer, 128, AHEAD, 2)
    groups = RelevanceBatches(chats, negatives=2)
    batch = groups.batch(0, 5)
    assert batch is not None and batch.response_index is not None
    assert len(batch.tokens) == 15
    spoken = [t[i > 0].tolist() for t, i in zip(batch.tokens, batch.response_index, strict=True)]
    for g in range(0, 15, 3):
        assert spoken[g] == spoken[g + 1] == spoken[g + 2]
        assert spoken[g][-1] == tokenizer.eos_id
    # A group is the same wherever the batch that holds it begins.
    later = groups.batch(3, 2)
    assert later is not None
    width = later.tokens.shape[1]
    assert np.array_equal(later.tokens, batch.tokens[9:, :width])


def test_equal_answers_are_never_negatives(tokenizer: Tokenizer, tmp_path: Path):
    same = [[Message("user", f"hi {i}"), Message("assistant", "Yes.")] for i in range(30)]
    pack_conversations(
        same,
        tokenizer,
        tmp_path,
        n_conversations=30,
        validation_share=0.1,
        spell_share=0.0,
        seed=0,
    )
    chats = ChatBatches(TokenStream(tmp_path, "train"), tokenizer, 64, AHEAD, 0)
    assert RelevanceBatches(chats, negatives=1).batch(0, 4) is None


def test_drills_take_their_share_and_depend_on_the_index_alone(
    text_stream: TokenStream, tokenizer: Tokenizer
):
    def batches(share: float) -> TextBatches:
        return TextBatches(text_stream, tokenizer.bos_id, 32, 4, 0, Drills(tokenizer, share, 0))

    plain, some = batches(0.0).batch(0, 200), batches(0.3).batch(0, 200)
    changed = (plain.tokens != some.tokens).any(axis=1)
    assert 0.2 < changed.mean() < 0.4
    assert np.array_equal(batches(0.3).batch(7, 20).tokens, some.tokens[7:27])
    assert np.array_equal(plain.tokens[~changed], some.tokens[~changed])


def test_follow_counts_count_each_pair_of_neighbours(
    text_stream: TokenStream, chat_stream: TokenStream, tokenizer: Tokenizer
):
    counts = follow_counts([text_stream, chat_stream], tokenizer.vocab_size)
    assert counts.sum() == len(text_stream) + len(chat_stream) - 2
    ids = text_stream.read(0, len(text_stream)) & 0x7FFF
    the = tokenizer.encode(" the")[0]
    assert counts[the].sum() >= (ids == the).sum() > 50
    with pytest.raises(InputError, match="kindred_embedding"):
        follow_counts([text_stream], 20_000)
