"""What a run starts or goes on from: its packed data, its newest checkpoint or a fresh model.

In: a recipe and a run directory. Out: `Beginning`, and the model. In a run of many processes only
the first one makes them; the others are given them.
"""

import dataclasses
import socket
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from tinymemorylm.batches import TokenStream, follow_counts
from tinymemorylm.config import ModelConfig, Recipe
from tinymemorylm.errors import InputError
from tinymemorylm.files import atomic_file
from tinymemorylm.model.start import copying_heads, initialise, kindred_embedding
from tinymemorylm.model.transformer import Transformer
from tinymemorylm.model_directory import load_model
from tinymemorylm.progress import log
from tinymemorylm.tensor_files import misfit
from tinymemorylm.tokenizer import Tokenizer
from tinymemorylm.training.changes import Change, changes, check_recipe, noted_recipe
from tinymemorylm.training.checkpoint import load_checkpoint
from tinymemorylm.training.prepare import packed_digests, prepare


def is_finished(run: Path, recipe: Recipe) -> bool:
    return (run / ("model.pt" if recipe.sft.tokens else "pretrain.pt")).exists()


@dataclass(frozen=True)
class Beginning:
    """A run as its first process found or made it."""

    tokenizer: Tokenizer
    counts: dict[str, Any]
    origin: dict[str, Any]
    saved: dict[str, Any] | None
    """The state of the checkpoint to go on from."""
    history: list[dict[str, Any]]
    """Every change to the recipe since the run began, with the step it was made at."""
    start: Transformer | None
    """A model made elsewhere that training starts from."""


def begin(
    recipe: Recipe,
    run: Path,
    phases: Sequence[str],
    *,
    start_from: Path | None,
    tokenizer: Tokenizer | None,
    resume: bool,
    allow_changed: bool,
    skip_bad: bool,
) -> Beginning | None:
    """Read what is there, prepare the data; arguments as `train` has them.

    None if the run is finished. Raises InputError for unusable data or a changed recipe.
    """
    finished = resume and is_finished(run, recipe)
    saved = None if finished else saved_state(run)
    changed = check_recipe(
        run, saved["recipe"] if saved else noted_recipe(run), recipe, allow_changed
    )
    if finished:
        log(f"{run} is finished; nothing to do")
        return None
    start = None
    if start_from is not None:
        start, tokenizer = load_model(start_from)
    tokenizer, counts = prepare(recipe, run, phases, tokenizer, skip_bad)
    if start_from is not None:
        _take_along(start_from / "pretrain.pt", run / "pretrain.pt")
    origin = {"tokenizer_sha256": tokenizer.sha256, "data": packed_digests(run, phases)}
    if saved is not None and (different := changes(saved["origin"], origin)):
        raise InputError(
            f"the checkpoints in {run} were made with another {different[0].field}; "
            "name another --out"
        )
    return Beginning(tokenizer, counts, origin, saved, _history(saved, changed), start)


def check_shared(run: Path, phases: Sequence[str], begun: Beginning) -> None:
    """Raises InputError in a process that sees another directory than the first one."""
    try:
        same = packed_digests(run, phases) == begun.origin["data"]
    except OSError:
        same = False
    if not same:
        raise InputError(
            f"{run} on {socket.gethostname()} is not what the first process has packed; --out must "
            "be a directory that all hosts share, under the same path"
        )


def make_model(recipe: Recipe, run: Path, begun: Beginning) -> Transformer:
    """The model as the next step needs it. Raises InputError if the checkpoint's is another."""
    config = dataclasses.replace(recipe.model(), vocab_size=begun.tokenizer.vocab_size)
    if begun.saved is None:
        return begun.start or fresh_model(config, recipe, run, begun.tokenizer)
    model = begun.start or Transformer(config)
    if reason := misfit(begun.saved["model"], model.state_dict()):
        raise InputError(f"the newest checkpoint in {run} is of another model: {reason}")
    model.load_state_dict(begun.saved["model"])
    return model


def fresh_model(
    config: ModelConfig, recipe: Recipe, run: Path, tokenizer: Tokenizer
) -> Transformer:
    """The model a recipe starts from; its streams in the run directory are there already."""
    model = initialise(Transformer(config), recipe.seed)
    if recipe.copying_heads:
        copying_heads(model, recipe.seed)
    if recipe.kindred_embedding:
        streams = [
            TokenStream(run / "shards" / name, "train")
            for name in ("pretrain", "sft")
            if getattr(recipe, name).tokens
        ]
        counts = torch.from_numpy(follow_counts(streams, tokenizer.vocab_size))
        kindred_embedding(model, counts, recipe.seed)
    return model


STATE = {
    *("position", "model", "optimizer", "random", "metrics_bytes", "samples_bytes"),
    *("recipe", "origin", "machine", "changed"),
}
"""What a checkpoint of a run holds."""


def saved_state(run: Path) -> dict[str, Any] | None:
    """The newest whole checkpoint's, or None. Says which damaged ones it passed over."""
    found = load_checkpoint(run)
    if found is None:
        return None
    saved, damaged = found
    for folder in damaged:
        log(f"{folder} is damaged; using an older checkpoint")
    if saved.keys() != STATE:
        raise InputError(f"the newest checkpoint in {run} is not of a run; name another --out")
    return saved


def _take_along(weights: Path, copy: Path) -> None:
    """The pretrained weights beside those tuned from them."""
    if weights.exists() and not copy.exists():
        with atomic_file(copy) as file:
            file.write(weights.read_bytes())


def _history(saved: dict[str, Any] | None, changed: list[Change]) -> list[dict[str, Any]]:
    """Every change to the recipe since the run began, with the step it was made at."""
    if saved is None:
        return []
    step = saved["position"]["step"]
    return [*saved["changed"], *({"step": step, **asdict(change)} for change in changed)]
