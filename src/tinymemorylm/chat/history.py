"""A conversation's history: checked, cut to what fits the context, saved and loaded.

In: messages. Out: messages of one shape: a system message or none, then user and assistant in
turns.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from tinymemorylm.corpus.chat import listed_messages
from tinymemorylm.errors import InputError
from tinymemorylm.files import write_text
from tinymemorylm.tokenizer import Message, Tokenizer


def checked(messages: Iterable[Message | dict[str, str]]) -> list[Message]:
    """The messages. Raises InputError for a bad one, or one out of turn."""
    plain = [asdict(m) if isinstance(m, Message) else m for m in messages]
    found = listed_messages(plain)
    place = 1 if found and found[0].role == "system" else 0
    for number, message in enumerate(found[place:]):
        expected = ("user", "assistant")[number % 2]
        if message.role != expected:
            raise InputError(
                f"message {place + number + 1} is the {message.role}'s where the {expected}'s is "
                "due: give a system message or none, then user and assistant in turns"
            )
    return found


def room_for_answer(context_length: int, max_new_tokens: int) -> int:
    """Tokens a prompt leaves for its answer: `max_new_tokens`, but at most half the context."""
    return min(max_new_tokens, context_length // 2)


def fit(tokenizer: Tokenizer, messages: Sequence[Message], limit: int) -> list[Message]:
    """The system message and as many of the last exchanges as make a prompt of `limit` tokens.

    An exchange, a user's message and the answer, stays or goes as a whole; the oldest go first.
    Raises InputError when not even the last one fits.
    """
    system = [m for m in messages[:1] if m.role == "system"]
    left = limit - len(tokenizer.encode_chat(system, add_generation_prompt=True))
    kept: list[Message] = []
    turn: list[Message] = []
    for message in reversed(messages[len(system) :]):
        turn.insert(0, message)
        if message.role == "user":
            size = len(tokenizer.encode_chat(turn)) - 1  # but <bos>
            if size > left and not kept:
                raise InputError(
                    f"the message is {size} tokens; beside the system message and room for an "
                    f"answer the context holds {max(0, left)}: shorten it, or lower max_new_tokens"
                )
            if size > left:
                break
            left -= size
            kept, turn = turn + kept, []
    return system + kept


def save(path: Path, messages: Sequence[Message]) -> None:
    """Write the conversation as one line of JSON, as chat data has it.

    Raises InputError if the file can't be written.
    """
    value = {"messages": [asdict(message) for message in messages]}
    try:
        write_text(path, json.dumps(value, ensure_ascii=False) + "\n")
    except OSError as error:
        raise InputError(f"{path}: can't be written: {error.strerror}") from None


def load(path: Path) -> list[Message]:
    """The conversation in a file. Raises InputError, naming the file, for anything else."""
    try:
        value: Any = json.loads(path.read_bytes().decode())
    except OSError as error:
        raise InputError(f"{path}: can't be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f'{path}: not one conversation in JSON: {{"messages": [...]}}') from None
    if not isinstance(value, dict) or "messages" not in value:
        raise InputError(f'{path}: it has no "messages"')
    try:
        return checked(listed_messages(value["messages"]))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
