"""An ablation: arms that differ in stated fields, run on paired seeds, measured on stated texts.

In: a TOML file that names a base recipe, arms and seeds; data and evaluation texts. Out: under the
output directory a model directory for each run, `results.json` and the table `results.md`.
"""

import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tinymemorylm.config import Recipe, load_recipe, shipped_recipe
from tinymemorylm.errors import InputError
from tinymemorylm.files import read_toml, write_json, write_text
from tinymemorylm.lab.processes import run_each
from tinymemorylm.lab.results import hardware, results, table
from tinymemorylm.lab.run import LabRun, Measure, check_run, perform, prepare_run
from tinymemorylm.lab.tokenizers import Kind
from tinymemorylm.progress import log
from tinymemorylm.validation import FORBID_UNKNOWN, from_mapping


@dataclass(frozen=True)
class Arm:
    """One setting under test. adjust: correct a constant word boost when evaluating."""

    name: str
    recipe: Recipe
    tokenizer: Kind = "hybrid"
    adjust: bool = True


@dataclass(frozen=True)
class AblationFile:
    """The TOML as written: tables of recipe fields by arm; `common` changes the base for all.

    An arm's table may also hold `tokenizer` (hybrid, bpe, unigram) and `adjust`.
    """

    base: str
    arms: dict[str, dict[str, Any]]
    question: str = ""
    """What the arms are to answer, in a line."""
    common: dict[str, Any] = field(default_factory=dict)
    seeds: tuple[int, ...] = (0, 1, 2)
    eval_texts: tuple[str, ...] = ()

    __pydantic_config__ = FORBID_UNKNOWN


@dataclass(frozen=True)
class LabSettings:
    """An ablation as it will run, what the command line says included."""

    name: str
    question: str
    arms: tuple[Arm, ...]
    seeds: tuple[int, ...]
    eval_texts: tuple[str, ...]


def read_ablation(
    path: Path,
    *,
    data: Sequence[str] = (),
    chat_data: Sequence[str] = (),
    eval_texts: Sequence[str] = (),
    seeds: Sequence[int] = (),
    arms: Sequence[str] = (),
) -> LabSettings:
    """Read an ablation: a TOML file or the name of one of the project's own.

    What is given besides takes the place of what the file says. Raises InputError for a bad file,
    field, seed or arm.
    """
    file = path if path.suffix == ".toml" else shipped_recipe(f"ablations/{path.name}")
    if not file.exists():
        own = sorted(p.stem for p in shipped_recipe("ablations/x").parent.glob("*.toml"))
        raise InputError(
            f"no ablation {path}; name a TOML file or one of: "
            + ", ".join(name for name in own if name != "base")
        )
    values = read_toml(file)
    content: AblationFile = from_mapping(AblationFile, values, str(path))
    base = Path(content.base)
    recipe = load_recipe(file.parent / base if base.suffix == ".toml" else base)
    given = {k: tuple(v) for k, v in (("data", data), ("chat_data", chat_data)) if v}
    recipe = dataclasses.replace(recipe, **given)
    if unknown := [name for name in arms if name not in content.arms]:
        raise InputError(f"{path}: no arm {unknown[0]}; it has {', '.join(content.arms)}")
    texts = tuple(eval_texts) or content.eval_texts
    if not texts:
        raise InputError(f"{path} names no texts to measure on; give --eval-text PATH...")
    wanted = tuple(dict.fromkeys(seeds or content.seeds))
    if not wanted or not content.arms:
        raise InputError(f"{path}: an ablation needs at least one arm and one seed")
    return LabSettings(
        file.stem,
        content.question,
        tuple(
            _arm(name, recipe, content, f"{path}: arm {name}")
            for name in content.arms
            if not arms or name in arms
        ),
        wanted,
        texts,
    )


def _arm(name: str, base: Recipe, content: AblationFile, where: str) -> Arm:
    if not re.fullmatch(r"\w[\w.+-]*", name):
        raise InputError(f"{where}: it names a folder; use letters, digits and . + - _")
    changes = merged(content.common, content.arms[name])
    own = {key: changes.pop(key) for key in ("tokenizer", "adjust") if key in changes}
    values = merged(dataclasses.asdict(base), changes)
    recipe = from_mapping(Recipe, {**values, "name": name}, where)
    return from_mapping(Arm, {"name": name, "recipe": recipe, **own}, where)


def merged(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """The values with changes, table within table."""
    result = dict(values)
    for key, change in changes.items():
        inner = result.get(key)
        if isinstance(change, dict) and isinstance(inner, dict):
            result[key] = merged(inner, change)
        else:
            result[key] = change
    return result


def plan(settings: LabSettings, out: Path, device: str | None, skip_bad: bool) -> list[LabRun]:
    """The runs in seed-major order: every arm has one seed before any has two.

    Arms that train alike, and are only measured differently, share a run.
    """
    groups: list[list[Arm]] = []
    for arm in settings.arms:
        group = next((g for g in groups if _trains_like(g[0], arm)), None)
        if group is None:
            groups.append([arm])
        else:
            group.append(arm)
    return [
        LabRun(
            folder=out / "runs" / first.name / f"seed-{seed}",
            recipe=dataclasses.replace(first.recipe, seed=seed),
            tokenizer=first.tokenizer,
            measures=tuple(Measure(arm.name, arm.adjust) for arm in (first, *others)),
            eval_texts=settings.eval_texts,
            device=device,
            skip_bad=skip_bad,
        )
        for seed in settings.seeds
        for first, *others in groups
    ]


def _trains_like(one: Arm, other: Arm) -> bool:
    same = dataclasses.replace(one.recipe, name=other.recipe.name) == other.recipe
    return same and one.tokenizer == other.tokenizer


def ablate(
    settings: LabSettings,
    out: Path,
    *,
    jobs: int = 1,
    threads: int | None = None,
    device: str | None = None,
    skip_bad: bool = False,
) -> dict[str, Any]:
    """Run what is not yet done, measure, and write `results.json` and `results.md`.

    Returns the results. A run that fails is noted there and the others go on. Raises InputError
    for unusable data or an `out` begun with other settings, InterruptedRunError after a signal.
    """
    if jobs < 1 or (threads is not None and threads < 1):
        raise InputError(f"jobs and threads must be at least 1, not {jobs} and {threads}")
    runs = plan(settings, out, device, skip_bad)
    for run in runs:
        check_run(run)
    used = hardware(jobs, threads, device)
    log(f"{settings.name}: {len(settings.arms)} arms, {len(settings.seeds)} seeds, in {out}")

    def write() -> dict[str, Any]:
        names = [arm.name for arm in settings.arms]
        found = results(settings.name, settings.question, names, runs, used)
        write_json(out / "results.json", found)
        write_text(out / "results.md", table(found))
        return found

    run_each(
        runs,
        prepare=lambda run: prepare_run(run, out),
        work=perform,
        after=lambda run: write(),
        jobs=jobs,
        threads=used["threads"],
    )
    return write()
