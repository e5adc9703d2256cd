"""`tmlm eval`: how good a model is.

In: a model directory, texts and other test data. Out: parts, each a list of rows: as tables, as
JSON, or in the model card.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinymemorylm.commands.evaluate_world import WorldOptions
from tinymemorylm.commands.output import print_json
from tinymemorylm.errors import InputError

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Evaluate(WorldOptions):
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
    pictures: Path | None = None
    """A folder for pictures; the model directory with --append-card when left out."""
    skip_bad: bool = False
    """Leave out bad input, counted, instead of stopping at it."""
    append_card: bool = False
    """Keep what is found in the model directory, and show it in its model card."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.model_directory import default_weights
        from tinymemorylm.report.run_report import report_run

        parts = dict(self._parts())
        if not parts:
            raise InputError("nothing to measure: give --text FILE, or another part (--help)")
        lm = self.load()
        weights = self.weights or default_weights(self.model)
        found: dict[str, Rows] = {}
        for name, measure in parts.items():
            found[name] = [{**row, "weights": weights} for row in measure(lm)]
        kept = self._keep(found) if self.append_card else found
        self._draw(kept, of=found)
        if self.append_card:
            report_run(self.model)
        if self.json:
            print_json({"model": str(self.model), "weights": weights, **found})
        else:
            from tinymemorylm.report.evaluation import sections

            print("\n\n".join(sections(found)))

    def _parts(self) -> Iterator[tuple[str, Callable[["LanguageModel"], Rows]]]:
        """The parts asked for. Raises InputError where one lacks what it needs."""
        if self.pictures and self.pictures.is_file():
            raise InputError(f"--pictures {self.pictures}: a file; name a folder")
        if self.text:
            yield "texts", self._texts
        for wanted, option in ((self.by_position, "--by-position"), (self.against, "--against")):
            if wanted and not self.text:
                raise InputError(f"{option} is about texts: give --text FILE too")
        if self.by_position:
            yield "positions", self._positions
        if self.against:
            yield "overlap", self._overlap
        yield from self.world_parts()

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

    def _keep(self, found: dict[str, Rows]) -> dict[str, Rows]:
        """All that was ever kept in the model directory, with what was found now."""
        import json

        from tinymemorylm.files import write_json
        from tinymemorylm.report.evaluation import merged

        path = self.model / "evaluation.json"
        before = json.loads(path.read_text()) if path.exists() else {}
        kept = merged(before, found)
        write_json(path, kept)
        return kept

    def _draw(self, rows: dict[str, Rows], of: Iterable[str]) -> None:
        """Pictures of the parts `of`, if there is a folder for them."""
        folder = self.pictures or (self.model if self.append_card else None)
        if folder and "recall" in of:
            from tinymemorylm.report.recall_curve import draw_recall_curve

            folder.mkdir(parents=True, exist_ok=True)
            draw_recall_curve(rows["recall"], folder / "recall.png")
