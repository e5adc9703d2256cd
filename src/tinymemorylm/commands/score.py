"""`tmlm score`: how likely a model finds a text, token by token.

In: a file or stdin. Out: log-probabilities, as JSON, lines, or colours on a terminal.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymemorylm.commands.options import ModelOptions
from tinymemorylm.commands.output import colour_console, print_json
from tinymemorylm.errors import InputError

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel, Score


@dataclass(frozen=True, kw_only=True)
class ScoreText(ModelOptions):
    """Log-probabilities of a text, which may be longer than the context.

    The whole file is one text. On a terminal the background shows what surprised the model, and
    characters that are tokens of their own are underlined; elsewhere there is a line a token.

    Example: tmlm score --text story.txt
    """

    text: Path | None = None
    """A UTF-8 file; stdin when left out."""
    json: bool = False
    """Print one JSON object; log-probabilities are in nats."""

    def run(self) -> None:
        text = read_text(self.text)
        score = scored(self.load(), text)
        if self.json:
            print_json(report(str(self.text or "-"), score))
            return
        if console := colour_console():
            from tinymemorylm.commands.token_view import print_surprise

            print_surprise(console, score.tokens)
        else:
            print("  logprob  class      token")
            for token in score.tokens:
                print(f"{token.logprob:>9.4f}  {token.token_class:<9}  {token.text!r}")
        words = sum(token.token_class == "word" for token in score.tokens)
        print(
            f"{score.logprob:,.2f} nats, {score.bits_per_byte:.4f} bits per byte: "
            f"{score.n_bytes:,} bytes, {len(score.tokens):,} tokens, {words:,} of them words"
        )


def read_text(path: Path | None) -> str:
    """The text of a file or stdin, a byte order mark dropped.

    Raises InputError if it is missing, empty or not UTF-8.
    """
    name = str(path) if path else "stdin"
    if path is None and sys.stdin.isatty():
        print("type or paste the text; Ctrl-D on an empty line ends it", file=sys.stderr)
    try:
        content = path.read_bytes() if path else sys.stdin.buffer.read()
    except OSError as error:
        raise InputError(f"{name}: can't be read: {error.strerror}; give --text FILE") from None
    try:
        text = content.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 at byte {error.start + 1}; convert it") from None
    if not text:
        raise InputError(f"{name}: empty: nothing to score in it")
    return text


def scored(lm: "LanguageModel", text: str) -> "Score":
    """The score, with progress."""
    from tinymemorylm.progress import Progress

    with Progress("scoring", None) as shown:

        def progress(done: int, total: int) -> None:
            shown.total = total
            if done < total:  # else it would begin to show only to say that it is done
                shown.update(done, f"{done:,} of {total:,} tokens")

        return lm.score(text, progress)


def report(path: str, score: "Score") -> dict[str, Any]:
    """The contract's shape."""
    return {
        "path": path,
        "logprob": score.logprob,
        "bits_per_byte": score.bits_per_byte,
        "bytes": score.n_bytes,
        "tokens": len(score.tokens),
        "token_logprobs": [
            {"token": t.text, "id": t.id, "logprob": t.logprob, "class": t.token_class}
            for t in score.tokens
        ],
    }
