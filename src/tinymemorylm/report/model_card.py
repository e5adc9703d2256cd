"""The model card of a run: a README.md holding the run's own figures and nothing else.

In: `config.json`, `recipe.json`, metrics and samples. Out: Markdown text.
"""

from collections.abc import Container, Iterator, Sequence
from typing import Any

from tinymemorylm.report.evaluation import sections as evaluation_sections

SAMPLES_SHOWN = 10


def model_card(
    config: dict[str, Any],
    recipe: dict[str, Any],
    metrics: list[dict[str, Any]],
    samples: list[dict[str, Any]],
    evaluation: dict[str, Any] | None,
    pictures: Container[str] = (),
) -> str:
    """Markdown. `evaluation` is the directory's evaluation.json, if it was measured.

    pictures: the names of the pictures beside the card.
    """
    parameters, provenance = config["parameters"], config["provenance"]
    architecture = config["architecture"]
    phases = [p for p in ("pretrain", "sft") if any(m["phase"] == p for m in metrics)]
    sections = [
        f"# {recipe['name']}",
        f"A language model of {parameters['total']:,} parameters "
        f"({parameters['inference']:,} without its multi-token prediction heads), trained from "
        f"scratch with tinymemorylm {provenance['version']}. It is a very small model: it "
        "invents facts, loses the thread and repeats itself. It is meant for research, teaching "
        "and experiments, not for advice.",
        "## Use",
        "```\ntmlm generate --model . --prompt 'Once upon a time'\n"
        + ("tmlm generate --model . --chat --prompt 'Hello!'\n" if "sft" in phases else "")
        + "```",
        "## Architecture",
        _table(
            ["", ""],
            [
                ["preset", _preset(config, recipe)],
                ["layers", _layers(architecture)],
                ["width", f"{architecture['d_model']}, feed-forward {architecture['d_ff']}"],
                ["heads", f"{architecture['n_heads']}, {architecture['n_kv_heads']} for KV"],
                ["attention", _attention(architecture)],
                ["vocabulary", f"{architecture['vocab_size']:,} words and characters"],
                *[[p.replace("_", " "), f"{n:,}"] for p, n in parameters["by_part"].items()],
            ],
        ),
        "## Training",
        _table(
            ["phase", "steps", "tokens", "seconds", "bits per byte, training", "validation"],
            [_phase_row(name, metrics) for name in phases],
        ),
        f"Seed {provenance['seed']}; {provenance['hardware']}; PyTorch {provenance['torch']}. "
        "Bits per byte of SFT count assistant tokens only. Data (SHA-256 of the files, "
        "commits of hub data sets):",
        "\n".join(f"- `{name}`: `{d[:16]}`" for name, d in provenance["data"]["sources"].items()),
        *_changes(provenance.get("changed", ())),
        *recipe.get("data_notes", ()),
        "![Loss curve](loss_curve.png)",
    ]
    if config["logit_adjustment"]:
        sections.append(
            "The loss boost was not annealed, so these weights over-predict words; our own tools "
            f"correct the logits by log {next(iter(config['logit_adjustment'].values()))}."
        )
    if evaluation:
        sections += ["## Evaluation", *evaluation_sections(evaluation, pictures=pictures)]
    last = {
        name: max((s["step"] for s in samples if s["phase"] == name), default=0) for name in phases
    }
    shown = [s for s in samples if s["phase"] in last and s["step"] == last[s["phase"]]]
    if shown:
        sections.append("## Samples\nThe last ones drawn in each phase, unselected.")
    for name in phases:
        for sample in [s for s in shown if s["phase"] == name][:SAMPLES_SHOWN]:
            sections.append(
                f"**{sample['prompt']}** (seed {sample['seed']})\n\n"
                + "\n".join("> " + line for line in sample["completion"].splitlines())
            )
    return "\n\n".join(sections) + "\n"


def _changes(changed: Sequence[dict[str, Any]]) -> Iterator[str]:
    """What the recipe above does not say: it was another one earlier in the run."""
    if changed:
        each = "; ".join(
            f"{c['field']} from {c['before']} to {c['now']} after step {c['step']:,}"
            for c in changed
        )
        yield f"The recipe was changed in mid-run: {each}."


def _preset(config: dict[str, Any], recipe: dict[str, Any]) -> str:
    changed = {k: v for k, v in recipe.get("architecture", {}).items() if v is not None}
    said = "; ".join(f"{name} = {value}" for name, value in changed.items())
    return f"{config['preset']}, with {said}" if said else config["preset"]


def _layers(architecture: dict[str, Any]) -> str:
    unique, logical = architecture["n_unique_layers"], architecture["n_logical_layers"]
    ffns = architecture["n_unique_ffns"]
    return f"{logical}, of {unique} tied blocks with {ffns} feed-forward(s)"


def _attention(architecture: dict[str, Any]) -> str:
    return (
        f"window {architecture['sliding_window']}, every {architecture['global_every']}rd layer "
        f"global, context {architecture['context_length']:,}"
    )


def _phase_row(name: str, metrics: list[dict[str, Any]]) -> list[str]:
    rows = [line for line in metrics if line["phase"] == name]
    before = [line for line in metrics if line["step"] < rows[0]["step"]]
    start = before[-1] if before else {"step": 0, "tokens_seen": 0, "seconds": 0.0}
    held_out = [line["val_bits_per_byte"] for line in rows if "val_bits_per_byte" in line]
    recent = rows[-20:]
    return [
        name,
        f"{rows[-1]['step'] - start['step']:,}",
        f"{rows[-1]['tokens_seen'] - start['tokens_seen']:,}",
        f"{rows[-1]['seconds'] - start['seconds']:,.0f}",
        f"{sum(line['bits_per_byte'] for line in recent) / len(recent):.4f}",
        f"{held_out[-1]:.4f}" if held_out else "",
    ]


def _table(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
