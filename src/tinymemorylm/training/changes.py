"""What a resumed run would do otherwise than it began: fields of its recipe, and its data.

In: what was written down then, and what is asked for now. Out: the differences, by field; or a
refusal that names them.
"""

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tinymemorylm.config import Recipe
from tinymemorylm.errors import InputError, shown
from tinymemorylm.files import read_json
from tinymemorylm.progress import log

ONLY_SAID = ("name", "data_notes")
"""Fields that change the model card and nothing else."""
SETTLED = (
    "preset",
    "architecture",
    "seed",
    "vocab_size",
    "data",
    "chat_data",
    "document_separator",
    "validation_share",
    "spell_share",
    "copying_heads",
    "kindred_embedding",
)
"""Fields whose work is done once a run has begun: its data is packed, its model made."""


@dataclass(frozen=True)
class Change:
    """A field, what it was and what it is."""

    field: str
    before: Any
    now: Any

    def __str__(self) -> str:
        return f"{self.field} {shown(repr(self.before))}, now {shown(repr(self.now))}"


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested tables as one, its keys joined by dots."""
    result: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        result |= flat(value, f"{prefix}{name}.") if inner else {prefix + name: value}
    return result


def written(recipe: Recipe) -> dict[str, Any]:
    """The recipe as it reads in `recipe.json`."""
    return json.loads(json.dumps(dataclasses.asdict(recipe)))


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[Change]:
    """Where two nested tables differ, in the order of their fields' names."""
    old, new = flat(before), flat(now)
    fields = sorted(old.keys() | new.keys())
    return [Change(f, old.get(f), new.get(f)) for f in fields if old.get(f) != new.get(f)]


def noted_recipe(run: Path) -> dict[str, Any] | None:
    """The recipe a run's data was prepared for, of which there may be no checkpoint yet."""
    noted = run / "recipe.json"
    found = read_json(noted) if noted.exists() else None
    if found is not None and not isinstance(found, dict):
        raise InputError(f"{noted} is no recipe; name another --out")
    return found


def check_recipe(
    run: Path, before: dict[str, Any] | None, recipe: Recipe, allow_changed: bool
) -> list[Change]:
    """How `recipe` differs from what the run began with; nothing for a run not begun.

    Raises InputError for any difference, unless they are allowed and can still have an effect.
    """
    if before is None:
        return []
    before = flat(written(Recipe(""))) | flat(before)  # fields younger than the run: their default
    found = [c for c in changes(before, written(recipe)) if c.field not in ONLY_SAID]
    if not found:
        return []
    listed = "; ".join(map(str, found))
    if settled := [change for change in found if _is_settled(change)]:
        raise InputError(
            f"{run} was begun with {listed}; {settled[0].field} can't change any more: "
            "name another --out"
        )
    if not allow_changed:
        raise InputError(
            f"{run} was begun with {listed}; --allow-changed to go on all the same, or name "
            "another --out"
        )
    log(f"{run} was begun with {listed}: it is no longer the run of one recipe")
    return found


def _is_settled(change: Change) -> bool:
    """Also a phase put in or left out: its data is packed, or isn't."""
    started = change.field in ("pretrain.tokens", "sft.tokens")
    return change.field.split(".")[0] in SETTLED or (started and not (change.before and change.now))
