"""What a speedrun found: medians by side, and the statement of how both were measured.

In: rows of finished repeats. Out: the content of `results.json`, and its table as Markdown.
"""

from collections.abc import Sequence
from statistics import median
from typing import Any

PUBLISHED_NATS = 1.88
"""Validation loss nanoGPT's README gives for its CPU recipe, in nats per character."""
PUBLISHED_TOLERANCE = 0.03


def results(
    settings: dict[str, Any],
    target: float | None,
    rows: list[dict[str, Any]],
    used: dict[str, Any],
    n_bytes: int,
) -> dict[str, Any]:
    """All that is known so far. target None: what the baseline ended at in the same repeat.

    `seconds_to_target` is the clock of the first measurement at or below the target, nothing drawn
    between measurements: a schedule cut short would not have been there.
    """
    for row in rows:
        row["seconds_to_target"] = _seconds_to(target or _baseline_end(row, rows), row)
    sides = dict.fromkeys((row["side"], row["minutes"]) for row in rows)
    return {
        "settings": settings,
        "target": target,
        "held_out_bytes": n_bytes,
        "hardware": used,
        "summary": [_summary(side, minutes, rows) for side, minutes in sides],
        "published": _published(rows),
        "rows": rows,
    }


def _baseline_end(row: dict[str, Any], rows: Sequence[dict[str, Any]]) -> float:
    same = [r for r in rows if (r["repeat"], r["minutes"]) == (row["repeat"], row["minutes"])]
    return next(r["bits_per_byte"] for r in same if r["side"] != "ours")


def _seconds_to(target: float, row: dict[str, Any]) -> float | None:
    reached = (p["seconds"] for p in row["points"] if p["bits_per_byte"] <= target)
    return next(reached, None)


def _summary(side: str, minutes: float | None, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    own = [r for r in rows if (r["side"], r["minutes"]) == (side, minutes)]
    to_target = [r["seconds_to_target"] for r in own]
    return {
        "side": side,
        "minutes": minutes,
        "repeats": len(own),
        "parameters": own[0]["parameters"],
        "tokens": median(r["tokens"] for r in own),
        "prepare_seconds": round(median(r["prepare_seconds"] for r in own), 3),
        "seconds": round(median(r["seconds"] for r in own), 2),
        "bits_per_byte": round(median(r["bits_per_byte"] for r in own), 5),
        "lowest": min(r["bits_per_byte"] for r in own),
        "highest": max(r["bits_per_byte"] for r in own),
        # A repeat that never gets there counts as later than all that do.
        "seconds_to_target": _finite(median(float("inf") if s is None else s for s in to_target)),
    }


def _finite(value: float) -> float | None:
    return None if value == float("inf") else round(value, 2)


def _published(rows: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
    """nanoGPT's figure as its own code estimates it, against the one published; median."""
    found = [row["nats_as_published"] for row in rows if "nats_as_published" in row]
    if not found:
        return None
    nats = median(found)
    return {
        "published_nats": PUBLISHED_NATS,
        "found_nats": nats,
        "reproduced": abs(nats - PUBLISHED_NATS) <= PUBLISHED_TOLERANCE,
    }


def results_table(found: dict[str, Any]) -> str:
    """The results as Markdown, with how each side was measured."""
    header = (
        *("side", "minutes", "repeats", "parameters", "tokens", "before the first step, s"),
        *("seconds", "bits per byte", "lowest to highest", "seconds to target"),
    )
    lines = [header, ("---",) * len(header)]
    for row in found["summary"]:
        to_target = row["seconds_to_target"]
        lines.append(
            (
                row["side"],
                "own steps" if row["minutes"] is None else f"{row['minutes']:g}",
                str(row["repeats"]),
                f"{row['parameters']:,}",
                f"{row['tokens']:,.0f}",
                f"{row['prepare_seconds']:.1f}",
                f"{row['seconds']:.1f}",
                f"{row['bits_per_byte']:.4f}",
                f"{row['lowest']:.4f} to {row['highest']:.4f}",
                "never" if to_target is None else f"{to_target:.1f}",
            )
        )
    used = found["hardware"]
    target = found["target"]
    return "\n".join(
        [
            f"# Speedrun, {found['settings']['track']}",
            "",
            *("| " + " | ".join(line) + " |" for line in lines),
            "",
            "Medians over repeats; each column by itself. Target: "
            + (f"{target:g} bits per byte." if target else "the baseline's end, repeat by repeat."),
            "",
            *_method(found),
            "",
            f"{used['cpu']}, {used['cores']} cores, {used['threads']} threads, PyTorch "
            f"{used['torch']}; both sides in one process, in turns.",
            "",
        ]
    )


def _method(found: dict[str, Any]) -> list[str]:
    """How each side was timed and measured, and where that favours one."""
    lines = [
        "The clock counts tokenizer, encoding, initial weights and steps; not imports, reading "
        "files and evaluation. Bits per byte are of the whole held-out text, "
        f"{found['held_out_bytes']:,} bytes. Ours: the project's protocol, a token sees <bos> or "
        "up to 2,047 tokens before it; while word boosts still anneal ours is measured as it "
        "is, biased towards words."
    ]
    published = found["published"]
    if published is None:
        return [
            *lines,
            "",
            "Plain GPT: byte-level BPE of 2,133 entries, windows of its block of "
            "256, each scoring its last 128 tokens (the first all of its own): a token sees 128 to "
            "255 before it.",
        ]
    half = [row["bits_per_byte_half_overlapping"] for row in _nanogpt(found)]
    return [
        *lines,
        "",
        "nanoGPT: windows of its block of 64 characters side by side, as its own loss "
        "has them: a character sees 0 to 63 before it. With windows that overlap by half (32 to 63 "
        f"before it) its last weights read {median(half):.4f} bits per byte.",
        "",
        f"nanoGPT's loss as its own code estimates it (20 batches of 12 random windows): "
        f"{published['found_nats']:.4f} nats per character; published: about "
        f"{published['published_nats']}. "
        + ("Reproduced" if published["reproduced"] else "NOT reproduced")
        + f" (within {PUBLISHED_TOLERANCE}).",
    ]


def _nanogpt(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [row for row in found["rows"] if "nats_as_published" in row]
