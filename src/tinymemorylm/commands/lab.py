"""The lab's verbs.

In: an ablation, data and texts. Out: runs, results and a table.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tinymemorylm.errors import InputError, RunError


@dataclass(frozen=True)
class Ablate:
    """Compare settings at equal budget on paired seeds, with their spread.

    Runs every arm of the ablation at every seed, all arms at one seed before any at the next. The
    same command goes on where it was stopped; finished runs are kept.

    Example: tmlm lab ablate --ablation word-boost --data books/ --eval-text held-out.txt
    --out runs/word-boost
    """

    ablation: Path
    """A TOML file, or one of recipes/ablations: card, word-boost, beyond, start."""
    out: Path
    """The directory for runs, results.json and results.md."""
    data: tuple[str, ...] = ()
    """Texts to train on, in place of the recipe's."""
    chat_data: tuple[str, ...] = ()
    """Conversations for SFT, if the recipe has any, in place of the recipe's."""
    eval_text: tuple[str, ...] = ()
    """Texts to measure on, in place of the ablation's."""
    seeds: tuple[int, ...] = ()
    """Seeds, in place of the ablation's."""
    arms: tuple[str, ...] = ()
    """Only these arms; the first of the ablation's among them is compared to."""
    jobs: int = 1
    """Runs side by side. Compare seconds only between runs made with the same number."""
    threads: int | None = None
    """Threads of each run; all cores over the jobs when left out."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""
    device: str | None = None
    """cpu, cuda or mps; the best there is when left out."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        from tinymemorylm.lab.ablation import ablate, read_ablation
        from tinymemorylm.lab.results import table

        settings = read_ablation(
            self.ablation,
            data=self.data,
            chat_data=self.chat_data,
            eval_texts=self.eval_text,
            seeds=self.seeds,
            arms=self.arms,
        )
        found = ablate(
            settings,
            self.out,
            jobs=self.jobs,
            threads=self.threads,
            device=self.device,
            skip_bad=self.skip_bad,
        )
        print(json.dumps(found, ensure_ascii=False) if self.json else table(found))
        if found["failures"]:
            raise RunError(f"{len(found['failures'])} arms failed at a seed; see {self.out}")


@dataclass(frozen=True)
class Speedrun:
    """Race our recipe against a plain GPT: bits per byte against seconds of training.

    Track shakespeare: one text, its last tenth held out, against nanoGPT's published CPU recipe.
    Track books: any texts, measured on --dev, against a plain GPT with byte-level BPE. Both sides
    run in turns in this process; the same command goes on where it was stopped, a repeat at a time.

    Example: tmlm lab speedrun --track shakespeare --text tinyshakespeare.txt --out runs/speedrun
    """

    track: Literal["shakespeare", "books"]
    text: tuple[str, ...]
    """Texts to train on; for shakespeare the one that is cut in two."""
    out: Path
    """The directory for results.json, results.md and race.png."""
    dev: tuple[str, ...] = ()
    """Held-out texts of track books."""
    recipe: Path = Path("speedrun")
    """How ours is trained: its pretraining phase. At most 760,000 parameters."""
    minutes: tuple[float, ...] = ()
    """End ours (on track books both sides) by the clock: one race for each. Schedules follow it."""
    target: float | None = None
    """Bits per byte to reach; where the baseline ends when left out."""
    repeats: int = 3
    """Races, each with a seed of its own; their median counts."""
    evaluations: int = 6
    """How often each side is measured, its end included."""
    threads: int | None = None
    """All cores when left out."""
    json: bool = False
    """Print one JSON object."""

    def run(self) -> None:
        import torch

        from tinymemorylm.config import load_recipe
        from tinymemorylm.lab.race_results import results_table
        from tinymemorylm.lab.speedrun import read_race, speedrun

        if self.threads is not None and self.threads < 1:
            raise InputError(f"threads must be at least 1, not {self.threads}")
        recipe = load_recipe(self.recipe)
        race = read_race(self.track, self.text, self.dev, recipe, self.minutes, self.target)
        torch.set_num_threads(self.threads or torch.get_num_threads())
        found = speedrun(race, self.out, repeats=self.repeats, evaluations=self.evaluations)
        print(json.dumps(found, ensure_ascii=False) if self.json else results_table(found))
