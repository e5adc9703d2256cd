"""What `tmlm eval` found, as Markdown: for the terminal and for the model card.

In: parts, each a list of rows. Out: a section for each part, its rows a table.
"""

from collections.abc import Container
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Part:
    """columns: heading, key of the row and how to format it. note: what the figures mean.

    picture: the file that shows them, where it was drawn.
    """

    title: str
    columns: tuple[tuple[str, str, str], ...]
    note: str = ""
    picture: str = ""


WEIGHTS = ("weights", "weights", "")
ACCURACY = (
    ("accuracy", "accuracy", ".2%"),
    ("from", "low", ".2%"),
    ("to", "high", ".2%"),
    ("n", "n", ","),
)
PARTS = {
    "texts": Part(
        "Bits per byte",
        (
            ("text", "path", ""),
            WEIGHTS,
            ("bits per byte", "bits_per_byte", ".4f"),
            ("bytes", "bytes", ","),
            ("bytes per token", "bytes_per_token", ".3f"),
        ),
        "Every byte counted once; a token sees up to 1,024 tokens before it.",
    ),
    "positions": Part(
        "Bits per byte by position",
        (
            ("text", "path", ""),
            WEIGHTS,
            ("from token", "from", ","),
            ("to", "to", ","),
            ("bits per byte", "bits_per_byte", ".4f"),
            ("standard error", "standard_error", ".4f"),
            ("bytes", "bytes", ","),
        ),
        "Windows of the whole context side by side; the error is over windows.",
    ),
    "overlap": Part(
        "Overlap with training text",
        (
            ("text", "path", ""),
            ("runs of 13 words", "runs", ","),
            ("also in the training text", "shared", ","),
            ("share", "share", ".4%"),
        ),
    ),
    "calibration": Part(
        "Calibration of the next token",
        (
            ("text", "path", ""),
            WEIGHTS,
            ("expected calibration error", "expected_calibration_error", ".4f"),
            ("accuracy", "accuracy", ".4f"),
            ("mean confidence", "confidence", ".4f"),
            ("tokens", "tokens", ","),
        ),
        "Of the likeliest token; 15 bins of equal width. 0: it is right as often as it is sure.",
        "reliability.png",
    ),
    "relevance": Part(
        "Relevance of answers to their prompts",
        (
            ("conversations", "path", ""),
            WEIGHTS,
            ("n", "n", ","),
            ("left out", "left_out", ","),
            ("bits per byte", "bits_per_byte", ".4f"),
            ("under others' prompts", "shuffled_bits_per_byte", ".4f"),
            ("gain", "gain", ".4f"),
            ("from", "low", ".4f"),
            ("to", "high", ".4f"),
        ),
        "Of the last answer's bytes. The gain is what the model takes from the prompt; 95% "
        "interval (bootstrap over conversations). Left out: longer than the context.",
    ),
    "degeneration": Part(
        "Degeneration",
        (
            ("samples", "kind", ""),
            WEIGHTS,
            ("n", "n", ","),
            ("temperature", "temperature", ".2f"),
            ("measure", "measure", ""),
            ("value", "value", ".4f"),
            ("from", "low", ".4f"),
            ("to", "high", ".4f"),
            ("words known from", "known", ""),
        ),
        "Samples of up to 200 tokens from fixed prompts, top-p 0.95; 95% intervals, Wilson's for "
        "shares of samples, bootstrap over samples for the rest. Distinct-n falls as n grows. "
        "Invented words: those that neither the words known from, nor the tokenizer, nor the "
        "prompt has; rare words and names may be among them.",
    ),
    "minimal_pairs": Part(
        "Minimal pairs",
        (("pairs", "path", ""), WEIGHTS, *ACCURACY),
        "How often the grammatical sentence of two is the likelier, by its summed log-probability "
        "after <bos>; ties are half. 50% is chance; 95% intervals (Wilson).",
    ),
    "minimal_pairs_mean": Part(
        "Minimal pairs: means over the files of a folder",
        (("folder", "path", ""), WEIGHTS, ("files", "files", ","), *ACCURACY),
    ),
    "tiny_leaderboard": Part(
        "As on the Tiny-ML Leaderboard",
        (
            ("benchmark", "benchmark", ""),
            ("file", "path", ""),
            WEIGHTS,
            *ACCURACY,
            ("byte perplexity", "byte_perplexity", ".4f"),
        ),
        "Texts without <bos>, their first token unscored; of BLiMP and ARC-Easy the first 256 "
        "tokens (chance: 50%, 25%); WikiText-2 in windows of 256 tokens, n its bytes. Figures by "
        "other protocols can't be compared with these.",
    ),
    "storyworld": Part(
        "Distance from a source of known entropy",
        (
            ("source", "path", ""),
            WEIGHTS,
            ("bits per byte", "bits_per_byte", ".4f"),
            ("of the source", "source_bits_per_byte", ".4f"),
            ("gap", "gap", ".4f"),
            ("standard error", "standard_error", ".4f"),
            ("gap in %", "gap_percent", ".1f"),
            ("stories", "stories", ","),
            ("bytes", "bytes", ","),
        ),
        "The source's bits are exact; where a story ends (`<eos>`) counts on both sides, and the "
        "error is over stories.",
    ),
    "recall": Part(
        "Recall by distance",
        (
            ("tokens between", "distance", ","),
            WEIGHTS,
            ("likeliest of 8", "accuracy", ".1%"),
            ("from", "accuracy_low", ".1%"),
            ("to", "accuracy_high", ".1%"),
            ("greedy answer", "exact", ".1%"),
            ("from", "exact_low", ".1%"),
            ("to", "exact_high", ".1%"),
            ("names", "name", ".1%"),
            ("things", "thing", ".1%"),
            ("colors", "color", ".1%"),
        ),
        "A fact, stories that do not mention it, a question. Chance is 12.5% for the likeliest of "
        "8, which is also what names, things and colors show. Intervals are Wilson's, of 95%.",
        "recall.png",
    ),
    "faithfulness": Part(
        "Answers about a story told",
        (
            ("questions", "questions", ""),
            WEIGHTS,
            ("answers", "n", ","),
            ("right", "right", ".1%"),
            ("from", "right_low", ".1%"),
            ("to", "right_high", ".1%"),
            ("contradict the story", "contradicts", ".1%"),
            ("invent", "invents", ".1%"),
            ("from", "invents_low", ".1%"),
            ("to", "invents_high", ".1%"),
            ("no answer", "no_answer", ".1%"),
        ),
        "Greedy answers, judged by the grammar that wrote story and question; as many questions "
        "of each kind. Intervals are Wilson's, of 95%.",
    ),
}


def merged(before: dict[str, list[Row]], now: dict[str, list[Row]]) -> dict[str, list[Row]]:
    """Both, what was measured again replaced: rows of the same weights and path."""
    result = dict(before)
    for name, rows in now.items():
        again = {_subject(row) for row in rows}
        result[name] = [r for r in before.get(name, []) if _subject(r) not in again] + rows
    return result


def _subject(row: Row) -> tuple[Any, Any]:
    return row.get("weights"), row.get("path")


def sections(
    found: dict[str, list[Row]], level: int = 3, pictures: Container[str] = ()
) -> list[str]:
    """Markdown blocks: heading, table and note of each part that has rows, and its picture.

    pictures: the names of those there are.
    """
    blocks: list[str] = []
    for name, part in PARTS.items():
        if rows := found.get(name):
            blocks += ["#" * level + f" {part.title}", table(part, rows)]
            blocks += [part.note] if part.note else []
            blocks += [f"![{part.title}]({part.picture})"] if part.picture in pictures else []
    return blocks


def table(part: Part, rows: list[Row]) -> str:
    lines = [[heading for heading, _, _ in part.columns], ["---"] * len(part.columns)]
    lines += [[_shown(row.get(key), form) for _, key, form in part.columns] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _shown(value: Any, form: str) -> str:
    return "" if value is None else format(value, form).replace("|", "\\|")
