"""`tmlm eval`: how good a model is.

In: a model directory, texts and other test data. Out: parts, each a list of rows: as tables, as
JSON, or in the model card.
"""

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinymemorylm.commands.options import ModelOptions
from tinymemorylm.commands.output import print_json
from tinymemorylm.errors import InputError

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluate(ModelOptions):
    """Measure a model: bits per byte of texts, and whatever else is asked for.

    Example: tmlm eval --model runs/quickstart --text held-out.txt --by-position
    """

    text: tuple[str, ...] = ()
    """Texts: .txt, .jsonl, .parquet, folders, globs, storyworld:SEED:BYTES or hf:owner/name."""
    document_separator: str = "<|endoftext|>"
    """The line that divides documents in text files; "blank": blank lines; "line": every line."""
    by_position: bool = False
    """Bits per byte of the texts by position in the context too."""
    against: tuple[str, ...] = ()
    """Training texts: how much of the texts occurs in them, by runs of 13 words."""
    skip_bad: bool = False
    """Leave out bad input, counted, instead of stopping at it."""
    append_card: bool = False
    """Keep what is found in the model directory, and show it in its model card."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.model_directory import default_weights

        parts = dict(self._parts())
        if not parts:
            raise InputError("nothing to measure: give --text FILE, or another part (--help)")
        lm = self.load()
        weights = self.weights or default_weights(self.folder)
        found: dict[str, Rows] = {}
        for name, measure in parts.items():
            found[name] = [{**row, "weights": weights} for row in measure(lm)]
        if self.append_card:
            self._keep(found)
        if self.json:
            print_json({"model": str(self.folder), "weights": weights, **found})
        else:
            from tinymemorylm.report.evaluation import sections

            print("\n\n".join(sections(found)))

    def _parts(self) -> Iterator[tuple[str, Callable[["LanguageModel"], Rows]]]:
        """The parts asked for. Raises InputError where one lacks what it needs."""
        if self.text:
            yield "texts", self._texts
        for wanted, option in ((self.by_position, "--by-position"), (self.against, "--against")):
            if wanted and not self.text:
                raise InputError(f"{option} is about texts: give --text FILE too")
        if self.by_position:
            yield "positions", self._positions
        if self.against:
            yield "overlap", self._overlap

    def _documents(self, source: str) -> Iterator[str]:
        from tinymemorylm.corpus import BadInput, read_documents, total_bytes_hint
        from tinymemorylm.progress import watched

        bad = BadInput(skip=self.skip_bad)
        documents = read_documents([source], document_separator=self.document_separator, bad=bad)
        hint = total_bytes_hint([source])
        yield from watched(source, documents, lambda text: len(text.encode()), hint)
        bad.log_skipped()

    def _texts(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.bits_per_byte import score_documents

        rows = []
        for source in self.text:
            began = time.perf_counter()
            score = score_documents(lm.scorer, self._documents(source))
            if not score.n_tokens:
                raise InputError(f"{source}: empty: nothing to measure in it")
            rows.append(
                {
                    "path": source,
                    "bits_per_byte": round(score.bits_per_byte, 5),
                    "nats_per_token": round(score.nats / score.n_tokens, 5),
                    "bytes_per_token": round(score.n_bytes / score.n_tokens, 4),
                    "bytes": score.n_bytes,
                    "tokens": score.n_tokens,
                    "seconds": round(time.perf_counter() - began, 1),
                }
            )
        return rows

    def _positions(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.positions import by_position

        rows = []
        for source in self.text:
            found = by_position(lm.scorer, self._documents(source))
            if not found:
                print(
                    f"{source}: no document fills the context of {lm.context_length} tokens",
                    file=sys.stderr,
                )
            rows += [{"path": source, **row} for row in found]
        return rows

    def _overlap(self, lm: "LanguageModel") -> Rows:
        from itertools import chain

        from tinymemorylm.evaluation.overlap import overlap

        texts = {source: self._documents(source) for source in self.text}
        training = chain.from_iterable(self._documents(source) for source in self.against)
        return [{**row, "against": " ".join(self.against)} for row in overlap(texts, training)]

    def _keep(self, found: dict[str, Rows]) -> None:
        from tinymemorylm.files import read_json, write_json
        from tinymemorylm.report.evaluation import merged
        from tinymemorylm.report.run_report import report_run

        path = self.folder / "evaluation.json"
        before = read_json(path) if path.exists() else {}
        write_json(path, merged(before, found))
        report_run(self.folder)
