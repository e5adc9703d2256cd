"""`tmlm tokenizer train` and `inspect`.

In: texts, or a tokenizer. Out: a tokenizer.json, or how a text splits.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tinymemorylm.commands.output import colour_console, print_json
from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError
from tinymemorylm.files import released_model

if TYPE_CHECKING:
    from tinymemorylm.splitting import Coverage
    from tinymemorylm.tokenizer import Tokenizer


@dataclass(frozen=True)
class TokenizerTrain:
    """Build a word/character tokenizer of an exact size from any text.

    Example: tmlm tokenizer train --data books/ --vocab-size 2133 --out tokenizer.json
    """

    data: tuple[str, ...]
    """Texts: .txt, .jsonl, .parquet, also compressed; folders, globs, storyworld:SEED:BYTES,
    hf:owner/name, tinystories."""
    out: Path
    """The tokenizer.json to write."""
    vocab_size: int = Recipe("").vocab_size
    document_separator: str = Recipe("").document_separator
    """What parts documents in .txt files: a line holding only this; or blank; or line."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""

    def run(self) -> None:
        from tinymemorylm.corpus import BadInput
        from tinymemorylm.progress import log
        from tinymemorylm.tokenizer import WORD, train_tokenizer
        from tinymemorylm.training.prepare import documents

        recipe = Recipe("", data=self.data, document_separator=self.document_separator)
        bad = BadInput(skip=self.skip_bad)
        tokenizer = train_tokenizer(documents(recipe, bad, "reading"), self.vocab_size)
        tokenizer.save(self.out)
        words = int((tokenizer.classes == WORD).sum())
        log(f"wrote {self.out}: {tokenizer.vocab_size:,} tokens, {words:,} of them words")
        bad.log_skipped()


@dataclass(frozen=True)
class TokenizerInspect:
    """How text splits: its tokens, bytes per token, and how much of it whole words cover.

    Of files, also what they spell out most often for want of an entry.

    Example: tmlm tokenizer inspect --text "The cat sat."
    """

    tokenizer: Path | None = None
    """A tokenizer.json, or a model directory; the released model's when left out."""
    text: str | None = None
    """The text to split."""
    data: tuple[str, ...] = ()
    """Texts to measure instead, named as for `tmlm tokenizer train`."""
    document_separator: str = Recipe("").document_separator
    """What parts documents in .txt files: a line holding only this; or blank; or line."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""
    top: int = 20
    """How many spelled-out pieces to list."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.tokenizer import Tokenizer

        if (self.text is None) == (not self.data):
            raise InputError("give either --text TEXT or --data FILE...")
        if self.top < 0:
            raise InputError(f"--top must be 0 or more, not {self.top}")
        path = self.tokenizer or released_model()
        path = path / "tokenizer.json" if path.is_dir() else path
        tokenizer = Tokenizer.load(path)
        if self.text is not None:
            self._inspect_text(tokenizer, self.text)
        else:
            self._inspect_data(tokenizer)

    def _inspect_text(self, tokenizer: "Tokenizer", text: str) -> None:
        from tinymemorylm.splitting import coverage, tokens
        from tinymemorylm.vocabulary import count_pre_tokens

        found = tokens(tokenizer, text)
        covered = coverage(tokenizer, count_pre_tokens([text]))
        if self.json:
            by_token = {
                "tokens": [token.text for token in found],
                "token_ids": [token.id for token in found],
                "classes": [token.token_class for token in found],
            }
            print_json({**by_token, **totals(covered)})
            return
        if console := colour_console():
            from tinymemorylm.commands.token_view import print_split

            print_split(console, found)
        else:
            print("|".join(token.text for token in found))
        print_totals(covered)

    def _inspect_data(self, tokenizer: "Tokenizer") -> None:
        from tinymemorylm.corpus import BadInput
        from tinymemorylm.splitting import coverage
        from tinymemorylm.training.prepare import documents
        from tinymemorylm.vocabulary import count_pre_tokens

        recipe = Recipe("", data=self.data, document_separator=self.document_separator)
        bad = BadInput(skip=self.skip_bad)
        covered = coverage(tokenizer, count_pre_tokens(documents(recipe, bad, "reading")))
        bad.log_skipped()
        spelled = covered.spelled_out.most_common(self.top)
        rows = [(text, count, len(tokenizer.encode(text))) for text, count in spelled]
        if self.json:
            listed = [{"text": text, "count": n, "tokens": size} for text, n, size in rows]
            print_json({**totals(covered), "spelled_out": listed})
            return
        print_totals(covered)
        if rows:
            print("spelled out most often\n     count  tokens  text")
        for text, count, size in rows:
            print(f"{count:>10,}  {size:>6}  {text!r}")


def totals(covered: "Coverage") -> dict[str, float]:
    return {
        "bytes": covered.n_bytes,
        "n_tokens": covered.n_tokens,
        "bytes_per_token": round(covered.bytes_per_token, 4),
        "share_of_bytes_in_words": round(covered.share_of_bytes_in_words, 4),
        "share_of_tokens_in_words": round(covered.share_of_tokens_in_words, 4),
    }


def print_totals(covered: "Coverage") -> None:
    of_bytes, of_tokens = covered.share_of_bytes_in_words, covered.share_of_tokens_in_words
    print(
        f"{covered.n_tokens:,} tokens, {covered.n_bytes:,} bytes, "
        f"{covered.bytes_per_token:.2f} bytes per token\n"
        f"words       {of_bytes:>6.1%} of the bytes  {of_tokens:>6.1%} of the tokens\n"
        f"characters  {1 - of_bytes:>6.1%} of the bytes  {1 - of_tokens:>6.1%} of the tokens"
    )
