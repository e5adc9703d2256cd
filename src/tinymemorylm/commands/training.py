"""The verbs that train: quickstart, train, pretrain, sft.

In: a recipe, any of its fields as options, and where to write. Out: a model directory.
"""

from abc import ABC, abstractmethod
from contextlib import nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from tinymemorylm.config import Recipe, load_recipe
from tinymemorylm.files import released_model
from tinymemorylm.training.sinks import SinkName


@dataclass(frozen=True)
class Quickstart:
    """The whole job in minutes: tokenizer, pretraining, SFT, samples, evaluation.

    Uses the text that comes with the package, needs no network and no GPU. Interrupted, it
    goes on where it stopped.

    Example: tmlm quickstart
    """

    out: Path = Path("runs/quickstart")
    """The model directory to write."""
    seed: int = 0
    device: str | None = None
    """cpu, cuda or mps; the best there is when left out."""

    def run(self) -> None:
        from tinymemorylm.quickstart import quickstart

        quickstart(self.out, self.seed, self.device)


@dataclass(frozen=True)
class _Training(ABC):
    recipe: Path
    """The recipe (TOML); the project's own are in recipes/."""
    out: Path
    """The model directory to write."""
    resume: bool = False
    """Go on with the run in --out; starts it if there is none."""
    allow_changed: bool = False
    """Resume also under a recipe that is not the one the run began with."""
    skip_bad: bool = False
    """Count bad input instead of stopping at it."""
    device: str | None = None
    """cpu, cuda or mps; the best there is when left out."""
    track: Annotated[tuple[SinkName, ...], tyro.conf.UseAppendAction] = ()
    """Show the figures in tensorboard or trackio too; can be given for each."""

    def run(self, overrides: list[str]) -> None:
        """Alone, or together with the other processes that torchrun has started."""
        from tinymemorylm.report.run_report import reported
        from tinymemorylm.training.distributed import joined
        from tinymemorylm.training.phases import train

        with joined(self.device) as processes:
            recipe, more = self.work(overrides)
            with reported(self.out) if processes.first else nullcontext():
                train(
                    recipe,
                    self.out,
                    resume=self.resume,
                    allow_changed=self.allow_changed,
                    skip_bad=self.skip_bad,
                    device=self.device,
                    track=self.track,
                    processes=processes,
                    **more,
                )

    @abstractmethod
    def work(self, overrides: list[str]) -> tuple[Recipe, dict[str, Any]]:
        """The recipe, and what else `train` is to be told."""


def overridden(path: Path, overrides: list[str], verb: str) -> Recipe:
    """The recipe with fields changed by arguments such as --pretrain.learning-rate 1e-3."""
    recipe = load_recipe(path)
    return tyro.cli(Recipe, default=recipe, args=overrides, prog=f"tmlm {verb} --recipe {path}")


@dataclass(frozen=True)
class Train(_Training):
    """Text to chat model: build the tokenizer, pretrain, fine-tune.

    Any field of the recipe is an option too: --data, --chat-data, --seed, --pretrain.tokens,
    --sft.learning-rate and so on; `tmlm train --recipe FILE --out DIR --fields` lists them.

    Example: tmlm train --recipe recipes/haiku-cpu.toml --data books/ --chat-data chats.jsonl
    --out runs/books
    """

    fields: bool = False
    """List the recipe's fields and their values, and stop."""

    def run(self, overrides: list[str]) -> None:
        if self.fields:
            overridden(self.recipe, [*overrides, "--help"], "train")
        super().run(overrides)

    def work(self, overrides: list[str]) -> tuple[Recipe, dict[str, Any]]:
        return overridden(self.recipe, overrides, "train"), {}


@dataclass(frozen=True)
class Pretrain(_Training):
    """Pretraining only: a completion model, in pretrain.pt.

    Any field of the recipe is an option too, as with `tmlm train`.

    Example: tmlm pretrain --recipe recipes/haiku-cpu.toml --data books/ --out runs/books
    """

    tokenizer: Path | None = None
    """A tokenizer.json to use instead of building one."""

    def work(self, overrides: list[str]) -> tuple[Recipe, dict[str, Any]]:
        from tinymemorylm.tokenizer import Tokenizer

        recipe = overridden(self.recipe, overrides, "pretrain")
        recipe = replace(recipe, sft=replace(recipe.sft, tokens=0))
        tokenizer = Tokenizer.load(self.tokenizer) if self.tokenizer else None
        return recipe, {"tokenizer": tokenizer}


@dataclass(frozen=True)
class Sft(_Training):
    """Instruction tuning only: starts from a model directory, writes model.pt.

    Any field of the recipe is an option too, as with `tmlm train`.

    Example: tmlm sft --recipe recipes/haiku-cpu.toml --model runs/books
    --chat-data chats.jsonl --out runs/books-chat
    """

    model: Path | None = None
    """The model directory to start from; the released model when left out."""

    def work(self, overrides: list[str]) -> tuple[Recipe, dict[str, Any]]:
        recipe = overridden(self.recipe, overrides, "sft")
        recipe = replace(recipe, pretrain=replace(recipe.pretrain, tokens=0))
        return recipe, {"start_from": self.model or released_model()}
