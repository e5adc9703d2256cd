"""The lab's verbs.

In: an ablation, data and texts. Out: runs, results and a table.
"""

import json
from dataclasses import dataclass
from pathlib import Path

from tinymemorylm.errors import RunError


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
