"""Speedrun: bits per byte against seconds of training, ours and a plain GPT in turns.

In: a track, texts and a recipe. Out: `results.json`, `results.md` and `race.png` in a directory.
The clock runs while a side prepares (tokenizer, encoding, weights) and steps; it stands still
during imports, reading files and evaluation.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import torch

from tinymemorylm.config import Recipe
from tinymemorylm.corpus import BadInput, read_documents, source_digest
from tinymemorylm.errors import InputError
from tinymemorylm.files import read_json, write_json, write_text
from tinymemorylm.lab.contestants import Contestant, Ours, PlainGPT
from tinymemorylm.lab.peers import GPTConfig
from tinymemorylm.lab.race_results import results, results_table
from tinymemorylm.lab.results import hardware
from tinymemorylm.progress import Progress, log
from tinymemorylm.report.race import draw_race
from tinymemorylm.training.changes import changes, written
from tinymemorylm.training.loop import InterruptedRunError, stop_signals

Track = Literal["shakespeare", "books"]

TRAINING_SHARE = 0.9
"""Shakespeare: what is trained on; the rest is the validation split, as nanoGPT cuts it."""
SLICE_SECONDS = 5.0
"""Training seconds of a side's turn: short, so that a noisy machine disturbs both alike."""
UNKNOWN_STEPS = 1e9
"""How many steps a race by time takes, before its first."""
NANOGPT = GPTConfig(vocab_size=0)  # characters: counted from the text
PLAIN_GPT = GPTConfig(vocab_size=2133, n_layers=3, width=112, block=256)
"""0.72M parameters: between ours with its further horizons and without them."""


@dataclass(frozen=True)
class Race:
    """What is raced: training documents and held-out ones, our recipe, and for how long.

    minutes: one race for each, ended by the clock; empty: each side's own number of steps.
    """

    track: Track
    recipe: Recipe
    training: list[str]
    held_out: list[str]
    sources: dict[str, str]
    minutes: tuple[float, ...] = ()
    target: float | None = None

    def settings(self) -> dict[str, Any]:
        """What all repeats in one directory share."""
        return {
            "track": self.track,
            "recipe": written(self.recipe),
            "sources": self.sources,
            "minutes": list(self.minutes),
        }


def read_race(
    track: Track,
    texts: Sequence[str],
    dev: Sequence[str],
    recipe: Recipe,
    minutes: Sequence[float],
    target: float | None,
) -> Race:
    """Raises InputError for a missing text, or options that don't fit the track."""
    if any(m <= 0 for m in minutes) or (target is not None and target <= 0):
        raise InputError(f"minutes and target must be above 0, not {[*minutes]} and {target}")
    if track == "shakespeare":
        if len(texts) != 1 or dev:
            raise InputError(
                "--track shakespeare takes one --text and no --dev: its last 10% is held out"
            )
        try:
            text = Path(texts[0]).read_bytes().decode()
        except OSError as error:
            raise InputError(f"{texts[0]} can't be read: {error.strerror}") from None
        except UnicodeDecodeError:
            raise InputError(f"{texts[0]} is not UTF-8 text") from None
        cut = int(len(text) * TRAINING_SHARE)
        training, held_out = [text[:cut]], [text[cut:]]
    else:
        if not texts or not dev or not minutes:
            raise InputError("--track books needs --text, --dev and --minutes, such as 10 30")
        bad = BadInput(skip=False)
        training = list(read_documents(texts, bad=bad))
        held_out = list(read_documents(dev, bad=bad))
    if not any(training) or not any(held_out):
        raise InputError("the texts leave nothing to train on or nothing to measure on")
    sources = source_digest([*texts, *dev])
    return Race(track, recipe, training, held_out, sources, tuple(minutes), target)


@dataclass
class Lane:
    """How far one side is: seconds on its clock, and what was measured when."""

    side: Contestant
    limit: float | None
    """Seconds the race lasts; None: the side's own number of steps."""
    evaluations: int
    """At how many even shares of its race it is measured, the end included."""
    seconds: float = 0.0
    prepared: float = 0.0
    step: int = 0
    tokens: int = 0
    marks: int = 0
    points: list[dict[str, float]] = field(default_factory=list)

    @property
    def share(self) -> float:
        """How much of its race is behind it."""
        if self.limit is None:
            return self.step / self.side.n_steps
        return min(1.0, self.seconds / self.limit)

    @property
    def finished(self) -> bool:
        return self.marks == self.evaluations

    def n_steps(self) -> float:
        """How many steps it takes in all. By time: so many that this one stands where the clock
        does, which makes schedules follow the clock."""
        if self.limit is None:
            return self.side.n_steps
        if not self.step:
            return UNKNOWN_STEPS
        return self.step * (self.limit - self.prepared) / (self.seconds - self.prepared) + 1

    def prepare(self) -> None:
        began = time.perf_counter()
        self.side.prepare()
        self.seconds = self.prepared = time.perf_counter() - began

    def take_step(self) -> None:
        began = time.perf_counter()
        self.tokens += self.side.step(self.step, self.n_steps())
        self.seconds += time.perf_counter() - began
        self.step += 1

    def measure_if_due(self, documents: Sequence[str]) -> None:
        """Measure where a mark has been passed; off the clock."""
        marks = int(self.share * self.evaluations + 1e-9)
        if marks == self.marks:
            return
        self.marks = marks
        score = self.side.score(documents)
        self.points.append(
            {
                "seconds": round(self.seconds, 3),
                "tokens": self.tokens,
                "bits_per_byte": round(score.bits_per_byte, 5),
            }
        )


def drive(
    lanes: Sequence[Lane], documents: Sequence[str], title: str, stopped: Callable[[], bool]
) -> None:
    """Prepare the sides, then step them in turns of SLICE_SECONDS to their ends.

    Raises InterruptedRunError after a signal, RunError if ours diverges.
    """
    with Progress(title, len(lanes)) as progress:
        for lane in lanes:
            lane.prepare()
        while running := [lane for lane in lanes if not lane.finished]:
            for lane in running:
                until = lane.seconds + SLICE_SECONDS
                while not lane.finished and lane.seconds < until:
                    if lane.share < 1:
                        lane.take_step()
                    lane.measure_if_due(documents)
                    if stopped():
                        raise InterruptedRunError(
                            "stopped; finished repeats are kept and the same command goes on"
                        )
                progress.update(sum(lane.share for lane in lanes), _standing(lanes))


def _standing(lanes: Sequence[Lane]) -> str:
    return ", ".join(
        f"{lane.side.name} {lane.seconds:.0f} s"
        + (f" {lane.points[-1]['bits_per_byte']:.3f} bits/byte" if lane.points else "")
        for lane in lanes
    )


def run_repeat(
    race: Race,
    minutes: float | None,
    repeat: int,
    evaluations: int,
    stopped: Callable[[], bool],
) -> list[dict[str, Any]]:
    """One race of both sides at one seed: a row each."""
    seed = race.recipe.seed + repeat
    limit = None if minutes is None else 60 * minutes
    with TemporaryDirectory() as folder:
        ours = Ours(race.recipe, race.training, Path(folder), seed)
        if race.track == "shakespeare":
            theirs = PlainGPT("nanoGPT", NANOGPT, race.training, seed, bpe=False)
        else:
            theirs = PlainGPT("plain GPT", PLAIN_GPT, race.training, seed, bpe=True)
        # nanoGPT's recipe is a number of steps, whatever time ours is given.
        their_limit = None if race.track == "shakespeare" else limit
        lanes = [Lane(ours, limit, evaluations), Lane(theirs, their_limit, evaluations)]
        if repeat % 2:
            lanes.reverse()
        drive(lanes, race.held_out, _title(minutes, repeat), stopped)
        return [_row(lane, race, minutes, repeat) for lane in lanes]


def _title(minutes: float | None, repeat: int) -> str:
    return f"repeat {repeat + 1}" + ("" if minutes is None else f", {minutes:g} minutes")


def _row(lane: Lane, race: Race, minutes: float | None, repeat: int) -> dict[str, Any]:
    return {
        "side": lane.side.name,
        "minutes": minutes,
        "repeat": repeat,
        "seed": race.recipe.seed + repeat,
        "parameters": lane.side.parameters,
        "steps": lane.step,
        "tokens": lane.tokens,
        "prepare_seconds": round(lane.prepared, 3),
        "seconds": round(lane.seconds, 3),
        "bits_per_byte": lane.points[-1]["bits_per_byte"],
        **lane.side.last_words(race.held_out),
        "points": lane.points,
    }


def speedrun(race: Race, out: Path, *, repeats: int, evaluations: int) -> dict[str, Any]:
    """Run the repeats that `out` has not yet, and write what was found after each.

    Returns the results. Raises InputError for bad numbers or an `out` begun with other settings,
    InterruptedRunError after a signal; the repeat under way is then lost, finished ones are kept.
    """
    if repeats < 1 or evaluations < 1:
        raise InputError(
            f"repeats and evaluations must be at least 1, not {repeats} and {evaluations}"
        )
    rows = _earlier_rows(race, out)
    used = hardware(1, torch.get_num_threads(), "cpu")
    found: dict[str, Any] = {}
    with stop_signals() as stopped:
        for repeat in range(repeats):
            for minutes in race.minutes or (None,):
                if not any((r["repeat"], r["minutes"]) == (repeat, minutes) for r in rows):
                    rows += run_repeat(race, minutes, repeat, evaluations, stopped)
                found = results(race.settings(), race.target, rows, used, _size(race.held_out))
                write_json(out / "results.json", found)
                write_text(out / "results.md", results_table(found))
                draw_race(found, out / "race.png")
    log(f"{out}: results.json, results.md, race.png")
    return found


def _earlier_rows(race: Race, out: Path) -> list[dict[str, Any]]:
    path = out / "results.json"
    if not path.exists():
        return []
    before = read_json(path)
    if not isinstance(before, dict) or not {"settings", "rows"} <= before.keys():
        raise InputError(f"{path} is not a speedrun's; name another --out")
    if found := changes(before["settings"], race.settings()):
        raise InputError(
            f"{out} was begun with {found[0].field} {found[0].before!r}, not {found[0].now!r}; "
            "name another --out"
        )
    return before["rows"]


def _size(documents: Sequence[str]) -> int:
    return sum(len(document.encode()) for document in documents)
