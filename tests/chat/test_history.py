import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.chat.history import checked, fit, load, room_for_answer, save
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message, Tokenizer

words = st.integers(1, 20).map(lambda n: " ".join(["the"] * n))


@st.composite
def histories(draw: st.DrawFn) -> list[Message]:
    """A system message or none, exchanges, and a message to answer."""
    system = [Message("system", draw(words))] if draw(st.booleans()) else []
    turns = [
        Message(role, draw(words))
        for _ in range(draw(st.integers(0, 6)))
        for role in ("user", "assistant")
    ]
    return [*system, *turns, Message("user", draw(words))]


def size(tokenizer: Tokenizer, messages: list[Message]) -> int:
    return len(tokenizer.encode_chat(messages, add_generation_prompt=True))


@given(histories(), st.integers(5, 120))
def test_what_is_kept_is_whole_fits_and_could_not_be_more(
    tokenizer: Tokenizer, messages: list[Message], limit: int
):
    system = [m for m in messages if m.role == "system"]
    turns = messages[len(system) :]
    if size(tokenizer, [*system, turns[-1]]) > limit:
        with pytest.raises(InputError, match="shorten it"):
            fit(tokenizer, messages, limit)
        return
    kept = fit(tokenizer, messages, limit)
    assert size(tokenizer, kept) <= limit
    assert kept[: len(system)] == system
    kept_turns = kept[len(system) :]
    assert kept_turns == turns[len(turns) - len(kept_turns) :]
    assert checked(kept) == kept  # begins with a user's message, ends with the last
    if len(kept_turns) < len(turns):
        one_more = turns[len(turns) - len(kept_turns) - 2 :]
        assert size(tokenizer, system + one_more) > limit


def test_an_answer_gets_the_room_it_may_take_but_at_most_half():
    assert room_for_answer(2048, 200) == 200
    assert room_for_answer(256, 200) == 128


@given(st.lists(st.text(min_size=1).filter(str.strip), max_size=5), st.booleans())
def test_saved_and_loaded_it_is_the_same(
    tmp_path_factory: pytest.TempPathFactory, contents: list[str], with_system: bool
):
    roles = ["system"] * with_system + ["user", "assistant"] * 3
    messages = [Message(role, text) for role, text in zip(roles, contents, strict=False)]
    path = tmp_path_factory.mktemp("chat") / "chat.json"
    save(path, messages)
    assert load(path) == messages
    assert path.read_bytes().count(b"\n") == 1
    assert json.loads(path.read_bytes())["messages"] == [
        {"role": m.role, "content": m.content} for m in messages
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not one conversation in JSON"),
        (b"\xff", "not one conversation in JSON"),
        (b'{"messages": []}\n{"messages": []}\n', "not one conversation in JSON"),
        (b"[1]", 'has no "messages"'),
        (b'{"messages": 3}', '"messages" is not a list'),
        (b'{"messages": [{"role": "user"}]}', "content is missing"),
        (b'{"messages": [{"role": "cat", "content": "x"}]}', "unknown role 'cat'"),
        (b'{"messages": [{"role": "assistant", "content": "x"}]}', "message 1 is the assistant's"),
        (
            b'{"messages": [{"role": "user", "content": "x"}, {"role": "system", "content": "x"}]}',
            "message 2 is the system's where the assistant's is due",
        ),
    ],
)
def test_any_other_file_is_refused_by_name(tmp_path: Path, content: bytes, message: str):
    path = tmp_path / "chat.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        load(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)


def test_files_that_cannot_be_reached_are_named(tmp_path: Path):
    with pytest.raises(InputError, match=r"nowhere.json: can't be read: No such file"):
        load(tmp_path / "nowhere.json")
    with pytest.raises(InputError, match=r"can't be written: Is a directory"):
        save(tmp_path, [])
