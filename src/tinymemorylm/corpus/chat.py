"""Conversations from JSON lines on this machine, in the shapes such data comes in.

In: a file, a folder or a glob of .jsonl. Out: lists of messages; faults go to a BadInput.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from tinymemorylm.corpus.bad_input import BadInput
from tinymemorylm.corpus.local import (
    file_format,
    find_files,
    read_objects,
    reporting_faults,
    text_fault,
)
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message

Turn = tuple[str, Any]  # role and content, the content still unchecked


def read_chat(path: str, *, bad: BadInput) -> Iterator[list[Message]]:
    """The conversations of a .jsonl file (or .gz, .xz, .zst), a folder or a glob.

    Raises InputError for a missing path, and for bad input unless `bad` skips it.
    """
    for file in find_files(path, (".jsonl",)):
        if file_format(file) != ".jsonl":
            bad.report(str(file), "unknown suffix: conversations are .jsonl (or .gz, .xz, .zst)")
            continue
        yield from reporting_faults(file, _conversations(file, bad), bad)


def _conversations(file: Path, bad: BadInput) -> Iterator[list[Message]]:
    for where, value in read_objects(file, bad):
        try:
            messages = conversation(value)
        except InputError as error:
            bad.report(where, str(error))
        else:
            yield messages


def conversation(value: dict[str, Any]) -> list[Message]:
    """The messages of one object. Raises InputError for an unknown shape or unusable turns."""
    messages = [_message(role, content) for role, content in _turns(value)]
    _check_order(messages)
    return messages


def _check_order(messages: Sequence[Message]) -> None:
    """Raises InputError unless there is an assistant turn, and a user turn before the first."""
    roles = [message.role for message in messages]
    if "assistant" not in roles:
        raise InputError("no assistant turn to learn from")
    if "user" not in roles[: roles.index("assistant")]:
        raise InputError("an assistant turn comes before any user turn")


def _turns(value: dict[str, Any]) -> list[Turn]:
    if "messages" in value:
        return _listed_turns(value["messages"])
    if "instruction" in value and "response" in value:  # as in Dolly
        return [("user", _prompt(value, "context")), ("assistant", value["response"])]
    if "prompt" in value or "response" in value:
        return [("user", value.get("prompt")), ("assistant", value.get("response"))]
    if "instruction" in value or "output" in value:
        return [("user", _prompt(value, "input")), ("assistant", value.get("output"))]
    raise InputError(
        'unknown shape: give "messages", "prompt" and "response", or "instruction" and "output" '
        'or "response"'
    )


def _listed_turns(messages: Any) -> list[Turn]:
    if not isinstance(messages, list) or not all(isinstance(m, dict) for m in messages):
        raise InputError('"messages" is not a list of objects')
    for message in messages:
        if not isinstance(message.get("role"), str):
            raise InputError('a message has no "role"')
    return [(message["role"], message.get("content")) for message in messages]


def _prompt(value: dict[str, Any], more: str) -> Any:
    """The instruction and what it is about, which stands under `more` and may be empty."""
    instruction, given = value.get("instruction"), value.get(more)
    if given in (None, ""):
        return instruction
    if not isinstance(given, str):
        raise InputError(f'"{more}" is not a string')
    return f"{instruction}\n{given}" if isinstance(instruction, str) else instruction


def listed_messages(messages: Any) -> list[Message]:
    """The messages of a list of {"role", "content"}. Raises InputError for any other value."""
    return [_message(role, content) for role, content in _listed_turns(messages)]


def _message(role: str, content: Any) -> Message:
    if fault := text_fault(content):
        raise InputError(f"the {role} turn's content {fault}")
    if not content.strip():
        raise InputError(f"the {role} turn's content is empty")
    return Message(role, content)
