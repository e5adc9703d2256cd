"""A chat as its user steers it: history, commands, and what to answer next.

In: lines, and the answers given. Out: an `Outcome` a line. Knows no terminal and no model.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tinymemorylm.chat import history
from tinymemorylm.errors import InputError
from tinymemorylm.tokenizer import Message, Tokenizer

HELP = {
    "/reset": "forget the conversation; the system message stays",
    "/save FILE": "write the conversation as JSON, as chat data has it",
    "/load FILE": "go on with a saved conversation",
    "/system TEXT": "set the system message; without TEXT, take it away",
    "/retry": "answer the last message again",
    "/help": "list the commands",
    "/quit": "leave; so does Ctrl-D",
}
AFTER_HELP = "Ctrl-C stops an answer. To begin a message with a slash, write two."

TRIMMED = "the oldest exchanges no longer fit the context: the model doesn't see them any more"


@dataclass(frozen=True)
class Outcome:
    """What a line leads to: a notice, messages to answer, both or neither; or the end."""

    notice: str = ""
    prompt: list[Message] = field(default_factory=list)
    leave: bool = False


@dataclass
class ChatSession:
    """The conversation so far. `prompt_limit`: tokens a prompt may have (`history.fit`).

    messages: a system message or none, then user and assistant in turns; the last message is
    the user's while it is unanswered.
    """

    tokenizer: Tokenizer
    prompt_limit: int
    messages: list[Message] = field(default_factory=list)
    trimmed: bool = False
    """Whether the last prompt had no room for all of them."""

    def handle(self, line: str) -> Outcome:
        """Act on a line. Raises InputError, having changed nothing, if it can't be done."""
        line = line.strip()
        if not line:
            return Outcome()
        if not line.startswith("/"):
            return self._ask(line)
        if line.startswith("//"):
            return self._ask(line[1:])
        name, _, argument = line.partition(" ")
        commands: dict[str, Callable[[str], Outcome]] = {
            "/reset": self._reset,
            "/save": self._save,
            "/load": self._load,
            "/system": self._system,
            "/retry": self._retry,
            "/help": self._help,
            "/quit": lambda _: Outcome(leave=True),
        }
        if name not in commands:
            raise InputError(f"no command {name}; /help lists them, // begins a message with /")
        return commands[name](argument.strip())

    def answered(self, text: str) -> None:
        """Keep the answer, whole or stopped half-way; an empty one leaves the message open."""
        if text.strip():
            self.messages.append(Message("assistant", text))

    def _ask(self, text: str) -> Outcome:
        # An unanswered message makes way for the new one.
        before = self.messages[:-1] if self._is_open() else self.messages
        return self._answer([*before, Message("user", text)])

    def _answer(self, messages: list[Message]) -> Outcome:
        prompt = history.fit(self.tokenizer, messages, self.prompt_limit)
        trimmed = len(prompt) < len(messages)
        notice = TRIMMED if trimmed and not self.trimmed else ""
        self.messages, self.trimmed = messages, trimmed
        return Outcome(notice, prompt)

    def _is_open(self) -> bool:
        return bool(self.messages) and self.messages[-1].role == "user"

    def _turns(self) -> list[Message]:
        return [message for message in self.messages if message.role != "system"]

    def _reset(self, _: str) -> Outcome:
        self.messages = [message for message in self.messages if message.role == "system"]
        self.trimmed = False
        return Outcome("the conversation is forgotten")

    def _save(self, name: str) -> Outcome:
        path = _path(name, "/save")
        history.save(path, self.messages)
        return Outcome(f"saved {len(self.messages)} messages to {path}")

    def _load(self, name: str) -> Outcome:
        path = _path(name, "/load")
        self.messages, self.trimmed = history.load(path), False
        return Outcome(f"loaded {len(self.messages)} messages from {path}")

    def _system(self, text: str) -> Outcome:
        if not text:
            self.messages = self._turns()
            return Outcome("no system message any more")
        message = Message("system", text)
        size = len(self.tokenizer.encode_chat([message], add_generation_prompt=True))
        if size >= self.prompt_limit:
            raise InputError(
                f"the system message is {size} tokens; beside an answer the context holds "
                f"{self.prompt_limit}: shorten it"
            )
        self.messages = [message, *self._turns()]
        return Outcome("the system message is set")

    def _retry(self, _: str) -> Outcome:
        turns = self.messages if self._is_open() else self.messages[:-1]
        if not turns or turns[-1].role != "user":
            raise InputError("nothing to retry: no message yet")
        return self._answer(turns)

    def _help(self, _: str) -> Outcome:
        return Outcome("\n".join([*(f"{c:<14}{h}" for c, h in HELP.items()), AFTER_HELP]))


def _path(name: str, command: str) -> Path:
    if not name:
        raise InputError(f"{command} needs a file: {command} FILE")
    return Path(name).expanduser()
