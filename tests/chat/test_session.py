import json
from pathlib import Path

import pytest

from tinymemorylm.chat.session import HELP, ChatSession
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message, Tokenizer


@pytest.fixture
def session(tokenizer: Tokenizer) -> ChatSession:
    return ChatSession(tokenizer, prompt_limit=100)


def talk(session: ChatSession, *lines: str) -> None:
    for line in lines:
        if session.handle(line).prompt:
            session.answered("yes")


def contents(session: ChatSession) -> list[str]:
    return [message.content for message in session.messages]


def test_a_line_is_a_message_and_the_prompt_holds_what_came_before(session: ChatSession):
    talk(session, "one")
    assert session.handle(" two \n").prompt == [
        Message("user", "one"),
        Message("assistant", "yes"),
        Message("user", "two"),
    ]


def test_an_empty_line_is_nothing(session: ChatSession):
    outcome = session.handle("  \n")
    assert not (outcome.prompt or outcome.notice or outcome.leave or session.messages)


def test_a_message_may_begin_with_a_slash(session: ChatSession):
    assert session.handle("//help").prompt == [Message("user", "/help")]


def test_an_answer_stopped_half_way_stays(session: ChatSession):
    session.handle("one")
    session.answered("ye")
    assert contents(session) == ["one", "ye"]


def test_a_message_left_without_an_answer_makes_way_for_the_next(session: ChatSession):
    session.handle("one")
    session.answered("")
    assert session.handle("two").prompt == [Message("user", "two")]


def test_retry_answers_the_last_message_again(session: ChatSession):
    talk(session, "one", "two")
    assert [m.content for m in session.handle("/retry").prompt] == ["one", "yes", "two"]
    session.answered("no")
    assert contents(session) == ["one", "yes", "two", "no"]
    session.handle("three")
    session.answered(" ")
    assert [m.content for m in session.handle("/retry").prompt][-1] == "three"


def test_the_system_message_comes_first_is_replaced_and_taken_away(session: ChatSession):
    talk(session, "one", "/system Be kind.", "/system Be brief.")
    assert session.messages[0] == Message("system", "Be brief.")
    assert contents(session) == ["Be brief.", "one", "yes"]
    talk(session, "/system")
    assert contents(session) == ["one", "yes"]


def test_reset_forgets_all_but_the_system_message(session: ChatSession):
    talk(session, "/system Be kind.", "one", "/reset")
    assert contents(session) == ["Be kind."]


def test_help_lists_every_command_and_quit_leaves(session: ChatSession):
    notice = session.handle("/help").notice
    assert all(command in notice for command in HELP)
    assert session.handle("/quit").leave


def test_saved_then_loaded_it_goes_on_with_the_same_history(session: ChatSession, tmp_path: Path):
    talk(session, "/system Be kind.", "one", "two", f"/save {tmp_path / 'a chat.json'}")
    before = list(session.messages)
    line = (tmp_path / "a chat.json").read_text()
    assert line.count("\n") == 1 and json.loads(line)["messages"][1]["content"] == "one"
    talk(session, "/reset", "three", f"/load {tmp_path / 'a chat.json'}")
    assert session.messages == before


def test_a_trimmed_conversation_is_kept_whole_and_told_once(session: ChatSession):
    notices = []
    for _ in range(30):
        outcome = session.handle("the cat")
        notices += [outcome.notice] * bool(outcome.notice)
        assert len(session.tokenizer.encode_chat(outcome.prompt, True)) <= 100
        assert [m.role for m in outcome.prompt[:2]] in (["user"], ["user", "assistant"])
        session.answered("sat")
    assert len(session.messages) == 60
    assert len(notices) == 1 and "no longer fit" in notices[0]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("/sing", "no command /sing"),
        ("/save", "/save needs a file"),
        ("/load", "/load needs a file"),
        ("/load nowhere.json", "nowhere.json: can't be read"),
        ("/retry", "nothing to retry"),
        ("the " * 200, "shorten it"),
        ("/system " + "the " * 200, "the system message is"),
        ("half \ud800", "surrogate"),
    ],
)
def test_what_cannot_be_done_is_told_and_changes_nothing(
    session: ChatSession, line: str, message: str
):
    session.handle("/system Be kind.")
    before = list(session.messages)
    with pytest.raises(InputError, match=message):
        session.handle(line)
    assert session.messages == before
