"""`tmlm generate` and `tmlm chat`: text out of a model.

In: a prompt, or lines of a conversation. Out: the text.
"""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tinymemorylm.commands.options import SamplingOptions
from tinymemorylm.commands.output import print_json

if TYPE_CHECKING:
    from tinymemorylm.tokenizer import Message


@dataclass(frozen=True, kw_only=True)
class Generate(SamplingOptions):
    """Continue a text, or with --chat answer it.

    Example: tmlm generate --prompt "Once upon a time" --seed 3
    """

    prompt: str
    """The text to continue."""
    chat: bool = False
    """Treat the prompt as a user's message and write the answer."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        prompt = [{"role": "user", "content": self.prompt}] if self.chat else self.prompt
        done = self.load().generate(prompt, **self.options())
        if self.json:
            values = asdict(done)
            values.pop("nll")
            print_json(values)
        else:
            print(done.text if self.chat else self.prompt + done.text)


@dataclass(frozen=True, kw_only=True)
class Chat(SamplingOptions):
    """Talk with a model; /help lists the commands, Ctrl-C stops an answer.

    Without a terminal each line of input is a message and stdout holds the answers alone. The
    oldest exchanges are left out when the context is full. Each answer takes the next seed,
    from --seed on.

    Example: tmlm chat --temperature 0.2
    """

    def run(self) -> None:
        from tinymemorylm.chat.session import ChatSession
        from tinymemorylm.chat.terminal import Conversation, is_terminal, notice

        lm = self.load()
        lm.stream("", **self.options())  # tells of a bad option before the first message

        def answer(prompt: "list[Message]", attempt: int) -> Iterator[str]:
            return lm.stream(prompt, **{**self.options(), "seed": self.seed + attempt})

        if is_terminal():
            notice(f"{self.folder.name}: /help lists the commands, Ctrl-C stops an answer")
        session = ChatSession(lm.tokenizer, lm.prompt_limit(self.max_new_tokens))
        Conversation(session, answer).run()
