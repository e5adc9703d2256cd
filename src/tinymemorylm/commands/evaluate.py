"""`tmlm eval`: how good a model is.

In: a model directory, texts and other test data. Out: parts, each a list of rows: as tables, as
JSON, or in the model card.
"""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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
    calibration: bool = False
    """Whether the next token of the texts is right as often as the model is sure of it."""
    relevance: tuple[str, ...] = ()
    """Conversations: how much likelier answers are under their own prompts than under others."""
    degeneration: bool = False
    """Repetition, loops, invented words and broken answers in samples of fixed prompts."""
    samples: int = 100
    """Samples of --degeneration: so many texts and, of tuned weights, so many answers."""
    temperature: float = 0.7
    """Temperature of the samples."""
    words: tuple[str, ...] = ()
    """Texts whose words aren't invented; the training text, where it is at hand, when left out."""
    minimal_pairs: tuple[str, ...] = ()
    """Files of sentence pairs, or folders of them: BLiMP's .jsonl, Zorro's .txt."""
    protocol: Literal["tiny-leaderboard"] | None = None
    """Measure as the Tiny-ML Leaderboard does: what --blimp, --arc-easy and --wikitext name."""
    blimp: str | None = None
    """The folder of BLiMP's files."""
    arc_easy: str | None = None
    """ARC-Easy's test questions: .jsonl or .parquet, as the hub has them."""
    wikitext: str | None = None
    """WikiText-2's raw test text: a text file, or .parquet as the hub has it."""
    skip_bad: bool = False
    """Leave out bad input, counted, instead of stopping at it."""
    pictures: Path | None = None
    """A folder for pictures; the model directory with --append-card when left out."""
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
        weights = self.weights or default_weights(self.folder)
        found: dict[str, Rows] = {}
        for name, measure in parts.items():
            found[name] = [{**row, "weights": weights} for row in measure(lm)]
        kept = self._keep(found) if self.append_card else found
        self._draw(kept, of=found)
        if self.append_card:
            report_run(self.folder)
        if self.json:
            print_json({"model": str(self.folder), "weights": weights, **found})
        else:
            from tinymemorylm.report.evaluation import sections

            print("\n\n".join(sections(found)))

    def _parts(self) -> Iterator[tuple[str, Callable[["LanguageModel"], Rows]]]:
        """The parts asked for. Raises InputError where one lacks what it needs."""
        from tinymemorylm.decoding.sampling import Sampling

        if self.pictures and self.pictures.is_file():
            raise InputError(f"--pictures {self.pictures}: a file; name a folder")
        if self.text:
            yield "texts", self._texts
        for wanted, option in (
            (self.by_position, "--by-position"),
            (self.against, "--against"),
            (self.calibration, "--calibration"),
        ):
            if wanted and not self.text:
                raise InputError(f"{option} is about texts: give --text FILE too")
        if self.by_position:
            yield "positions", self._positions
        if self.against:
            yield "overlap", self._overlap
        if self.calibration:
            yield "calibration", self._calibration
        if self.relevance:
            yield "relevance", self._relevance
        if self.words and not self.degeneration:
            raise InputError("--words is about samples: give --degeneration too")
        if self.degeneration:
            if self.samples < 1:
                raise InputError(f"samples must be at least 1, not {self.samples}")
            Sampling(self.temperature)  # tells of a bad one before anything is measured
            yield "degeneration", self._degeneration
        if self.minimal_pairs:
            measure = cache(self._minimal_pairs)  # the means are of the same rows
            yield "minimal_pairs", measure
            yield "minimal_pairs_mean", lambda lm: _folder_means(measure(lm))
        board = {"--blimp": self.blimp, "--arc-easy": self.arc_easy, "--wikitext": self.wikitext}
        named = [option for option, source in board.items() if source]
        if self.protocol and not named:
            raise InputError(f"--protocol {self.protocol}: give at least one of {', '.join(board)}")
        if named and not self.protocol:
            raise InputError(f"{named[0]} belongs to --protocol tiny-leaderboard: give that too")
        if self.protocol:
            yield "tiny_leaderboard", self._tiny_leaderboard
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

    def _calibration(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.calibration import calibration

        return [{"path": s, **calibration(lm.scorer, self._documents(s))} for s in self.text]

    def _relevance(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.corpus import BadInput, read_conversations
        from tinymemorylm.evaluation.relevance import relevance

        rows = []
        for source in self.relevance:
            bad = BadInput(skip=self.skip_bad)
            rows.append(relevance(lm.scorer, read_conversations([source], bad=bad), source))
            bad.log_skipped()
        return rows

    def _degeneration(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.degeneration import degeneration, draw
        from tinymemorylm.model_directory import default_weights

        tuned = (self.weights or default_weights(self.folder)) == "model"
        whose, known = self._known_words(lm)
        rows = []
        for kind in ("continuation", "chat") if tuned else ("continuation",):
            samples = draw(
                lm.model, lm.tokenizer, lm.log_boost, kind, self.samples, self.temperature
            )
            about = {"kind": kind, "temperature": self.temperature}
            rows += [{**about, **row} for row in degeneration(samples, known, kind == "chat")]
        return [
            {**row, "known": whose} if row["measure"] == "invented_words" else row for row in rows
        ]

    def _known_words(self, lm: "LanguageModel") -> tuple[str, set[str]]:
        """Whose words count as known, in a few words, and those words."""
        from itertools import chain

        from tinymemorylm.evaluation.words import known_words, storyworld_words
        from tinymemorylm.progress import log
        from tinymemorylm.training.prepare import texts_of_run

        if self.words:
            texts = chain.from_iterable(self._documents(source) for source in self.words)
            return " ".join(self.words), known_words(lm.tokenizer, texts)
        try:
            return "training text", known_words(lm.tokenizer, texts_of_run(self.folder))
        except InputError as error:
            log(
                f"the training text isn't at hand ({error}): only the tokenizer's words and the "
                "storyworld's count as known; give --words FILE"
            )
            return "tokenizer, storyworld", known_words(lm.tokenizer, storyworld_words())

    def _minimal_pairs(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.corpus import BadInput
        from tinymemorylm.evaluation.minimal_pairs import measure_pairs, read_pairs

        bad = BadInput(skip=self.skip_bad)
        files = read_pairs(self.minimal_pairs, bad)
        bad.log_skipped()
        return measure_pairs(lm.scorer, files)

    def _tiny_leaderboard(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.corpus import BadInput
        from tinymemorylm.evaluation.tiny_leaderboard import arc_easy, blimp, wikitext

        bad = BadInput(skip=self.skip_bad)
        measures = ((self.blimp, blimp), (self.arc_easy, arc_easy), (self.wikitext, wikitext))
        rows = [measure(lm.scorer, source, bad) for source, measure in measures if source]
        bad.log_skipped()
        return rows

    def _keep(self, found: dict[str, Rows]) -> dict[str, Rows]:
        """All that was ever kept in the model directory, with what was found now."""
        from tinymemorylm.files import read_json, write_json
        from tinymemorylm.report.evaluation import merged

        path = self.folder / "evaluation.json"
        before = read_json(path) if path.exists() else {}
        kept = merged(before, found)
        write_json(path, kept)
        return kept

    def _draw(self, rows: dict[str, Rows], of: Iterable[str]) -> None:
        """Pictures of the parts `of`, if there is a folder for them."""
        from tinymemorylm.report.recall_curve import draw_recall_curve
        from tinymemorylm.report.reliability import draw_reliability

        folder = self.pictures or (self.folder if self.append_card else None)
        if folder and "recall" in of:
            folder.mkdir(parents=True, exist_ok=True)
            draw_recall_curve(rows["recall"], folder / "recall.png")
        if folder and "calibration" in of:
            draw_reliability(rows["calibration"], folder / "reliability.png")


def _folder_means(rows: Rows) -> Rows:
    from tinymemorylm.evaluation.minimal_pairs import folder_means

    return folder_means(rows)
