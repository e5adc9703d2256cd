"""Whether a model is the same in other programs: every export, held against our own.

Exports a model directory to each target and compares tokenizer, chat template, log-probabilities of
a text longer than the window, greedy continuations and bits per byte. Writes a table as JSON and
Markdown.

Run: python benchmarks/export_parity.py runs/quickstart --out benchmarks/results
"""

import argparse
import json
import platform
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from export_engines import Engine, Floats, LlamaCpp, OnnxRuntime, Ours, Transformers
from odd_strings import ODD_STRINGS
from tinymemorylm.corpus.storyworld import stories
from tinymemorylm.export.gguf import export_gguf
from tinymemorylm.export.huggingface import export_huggingface
from tinymemorylm.export.onnx import FILES, export_onnx
from tinymemorylm.export.source import Source, read_source
from tinymemorylm.files import write_json, write_text
from tinymemorylm.progress import log
from tinymemorylm.tokenizer import Message

TEXT_TOKENS = 1400
NEW_TOKENS = 64
TEXT_PROMPTS = (
    "Once upon a time",
    "The old man",
    "One day a little girl",
    "It was raining, and",
    "In the forest there lived",
    "“Where are you going?” said",
    "The king had three sons.",
    "She opened the door and",
    "Every morning the baker",
    "Far away, on an island,",
)
USER_PROMPTS = (
    "Hello!",
    "Who are you?",
    "What is a river?",
    "I feel sad.",
    "Tell me a story about a fox.",
    "What colour is the sky?",
    "My name is Zibby.",
    "Can you count to three?",
    "What do you like?",
    "Good night!",
)
CHATS = (
    [Message("user", "Hello!")],
    [Message("system", "Be kind."), Message("user", "  spaces\nand lines ")],
    [Message("user", "Hi"), Message("assistant", "Hello."), Message("user", "Zoë — 日本?")],
)


@dataclass(frozen=True)
class Target:
    """One export: how it is made in a folder, what it weighs, and the program that runs it."""

    name: str
    exact: bool
    """Whether its weights are floats; the others have a cost."""
    files: Callable[[Source, Path], list[Path]]
    engine: Callable[[Source, list[Path]], Engine]


def _huggingface(source: Source, folder: Path) -> list[Path]:
    export_huggingface(source, folder / "hf")
    return [folder / "hf" / "model.safetensors"]


def _gguf(type: Any) -> Target:
    def files(source: Source, folder: Path) -> list[Path]:
        path = folder / f"{type}.gguf"
        export_gguf(source, path, type)
        return [path]

    def engine(source: Source, files: list[Path]) -> Engine:
        config = source.model.config
        return LlamaCpp(files[0], config.context_length, config.vocab_size)

    return Target(f"llama.cpp {type}", type in ("f32", "f16"), files, engine)


def _onnx(dtype: Any) -> Target:
    def files(source: Source, folder: Path) -> list[Path]:
        if not (folder / "onnx").exists():
            export_onnx(source, folder / "onnx", tuple(FILES))
        return [folder / "onnx" / "onnx" / FILES[dtype]]

    def engine(source: Source, files: list[Path]) -> Engine:
        return OnnxRuntime(files[0].parents[1], files[0].name)

    return Target(f"onnxruntime {dtype}", dtype == "fp32", files, engine)


TARGETS = (
    Target("transformers", True, _huggingface, lambda _, files: Transformers(files[0].parent)),
    *(_gguf(type) for type in ("f32", "f16", "q8_0")),
    *(_onnx(dtype) for dtype in ("fp32", "int8", "q4")),
)


@dataclass(frozen=True)
class Reference:
    """What the model itself says: all that the targets are held against."""

    engine: Ours
    ids: list[int]  # <bos> and the text
    n_bytes: int
    logprobs: Floats  # (len(ids) - 1, vocab_size)
    prompts: list[list[int]]
    continuations: list[list[int]]

    @property
    def bits_per_byte(self) -> float:
        return bits_per_byte(self, self.logprobs)


def reference(source: Source, text: str | None, n_tokens: int, n_new: int) -> Reference:
    """n_tokens: of the text, at most what the context holds; None: made-up stories."""
    engine, tokenizer = Ours(source), source.tokenizer
    text = text or "\n\n".join(story.text for story in stories(991, 20 * n_tokens))
    ids = tokenizer.encode(text)[: min(n_tokens, source.model.config.context_length - 1)]
    n_bytes = int(tokenizer.byte_lengths[ids].sum())
    ids = [tokenizer.bos_id, *ids]
    prompts = [[tokenizer.bos_id, *tokenizer.encode(prompt)] for prompt in TEXT_PROMPTS]
    prompts += [engine.encode_chat([Message("user", prompt)]) for prompt in USER_PROMPTS]
    continuations = [engine.greedy(prompt, n_new) for prompt in prompts]
    return Reference(engine, ids, n_bytes, engine.logprobs(ids[:-1]), prompts, continuations)


def bits_per_byte(ref: Reference, logprobs: Floats) -> float:
    """Of the reference's text by a target's log-probabilities."""
    nats = -logprobs[np.arange(len(logprobs)), ref.ids[1:]].sum()
    return float(nats / np.log(2) / ref.n_bytes)


def compare(ref: Reference, engine: Engine, n_new: int) -> dict[str, Any]:
    """A target's differences to the reference."""
    logprobs = engine.logprobs(ref.ids[:-1])
    difference = np.abs(logprobs - ref.logprobs)
    worst = float(difference.max())
    apart = [gap for gap in _divergences(ref, engine, n_new) if gap is not None]
    bits = bits_per_byte(ref, logprobs)
    return {
        "max_logprob_difference": worst,
        "mean_logprob_difference": float(difference.mean()),
        "bits_per_byte": bits,
        "bits_per_byte_change": bits / ref.bits_per_byte - 1,
        "greedy_prompts": len(ref.prompts),
        "greedy_divergences": len(apart),
        # Both of two logits may be off, each by as much as the worst.
        "greedy_divergences_beyond_noise": sum(gap > 2 * worst for gap in apart),
        "odd_strings": len(ODD_STRINGS),
        "odd_strings_with_other_ids": _n_other_ids(ref, engine),
        "chats": len(CHATS),
        "chats_with_other_ids": sum(
            engine.encode_chat(chat) != ref.engine.encode_chat(chat) for chat in CHATS
        ),
    }


def _n_other_ids(ref: Reference, engine: Engine) -> int:
    return sum(engine.encode(text) != ref.engine.encode(text) for text in ODD_STRINGS)


def _divergences(ref: Reference, engine: Engine, n_new: int) -> Iterable[float | None]:
    """For each prompt None, or how far our two likeliest tokens are apart where paths part."""
    for prompt, expected in zip(ref.prompts, ref.continuations, strict=True):
        found = engine.greedy(prompt, n_new)
        if found == expected:
            yield None
            continue
        pairs = zip(found, expected, strict=False)
        shared = next(
            (i for i, (a, b) in enumerate(pairs) if a != b), min(len(found), len(expected))
        )
        first, second = np.sort(ref.engine.logprobs(prompt + expected[:shared])[-1])[:-3:-1]
        yield float(first - second)


def measure(
    source: Source,
    folder: Path,
    targets: Sequence[Target] = TARGETS,
    *,
    text: str | None = None,
    n_tokens: int = TEXT_TOKENS,
    n_new: int = NEW_TOKENS,
) -> dict[str, Any]:
    """Export to `folder` and compare: a row for each target."""
    ref = reference(source, text, n_tokens, n_new)
    rows = []
    for target in targets:
        log(f"{target.name} ...")
        files = target.files(source, folder)
        differences = compare(ref, target.engine(source, files), n_new)
        size = sum(path.stat().st_size for path in files)
        rows.append({"target": target.name, "exact": target.exact, "bytes": size, **differences})
    return {
        "model": source.name,
        "weights": source.weights,
        "text_tokens": len(ref.ids) - 1,
        "new_tokens": n_new,
        "bits_per_byte": ref.bits_per_byte,
        "hardware": platform.machine(),
        "rows": rows,
    }


def markdown(report: dict[str, Any]) -> str:
    """The report's table."""
    header = (
        "target",
        "MB",
        "max Δ log-prob",
        "mean Δ log-prob",
        "bits per byte",
        "change",
        f"greedy, {report['new_tokens']} tokens",
        "odd strings",
        "chats",
    )
    lines = [header, ["---"] * len(header)]
    for row in report["rows"]:
        apart, beyond = row["greedy_divergences"], row["greedy_divergences_beyond_noise"]
        same = [
            f"{row[of] - row[other]}/{row[of]} same"
            for of, other in (
                ("greedy_prompts", "greedy_divergences"),
                ("odd_strings", "odd_strings_with_other_ids"),
                ("chats", "chats_with_other_ids"),
            )
        ]
        if apart and row["exact"]:
            same[0] += f", {apart - beyond} within noise"
        lines.append(
            [
                row["target"],
                f"{row['bytes'] / 1e6:.2f}",
                f"{row['max_logprob_difference']:.1e}",
                f"{row['mean_logprob_difference']:.1e}",
                f"{row['bits_per_byte']:.4f}",
                f"{row['bits_per_byte_change']:+.3%}",
                *same,
            ]
        )
    said = (
        f"`{report['model']}` ({report['weights']}) against our own PyTorch: "
        f"{report['bits_per_byte']:.4f} bits per byte on {report['text_tokens']:,} tokens."
    )
    return said + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="a model directory")
    parser.add_argument("--weights", choices=("pretrain", "model"))
    parser.add_argument("--text", type=Path, help="the text to score; stories when left out")
    parser.add_argument("--targets", nargs="*", default=[t.name for t in TARGETS])
    parser.add_argument("--out", type=Path, help="a folder for export_parity.json and .md")
    options = parser.parse_args()
    chosen = [target for target in TARGETS if target.name in options.targets]
    text = options.text.read_text(encoding="utf-8") if options.text else None
    with tempfile.TemporaryDirectory() as folder:
        source = read_source(options.model, options.weights)
        report = measure(source, Path(folder), chosen, text=text)
    if options.out:
        write_json(options.out / "export_parity.json", report)
        write_text(options.out / "export_parity.md", markdown(report))
    print(json.dumps(report, indent=2))
    print(markdown(report), file=sys.stderr)


if __name__ == "__main__":
    main()
