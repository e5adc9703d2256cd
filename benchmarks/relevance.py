"""What the relevance objective brings: answers under their own and under others' prompts.

Tunes one pretrained model on conversations with and without the objective, at each seed, and
measures `tmlm eval --relevance` on conversations held out, before and after. Every tenth
conversation of --chat-data is held out; --held-out names further files. Interrupted, the same
command goes on.

Run: python benchmarks/relevance.py --model runs/haiku --chat-data chats.jsonl > results.json
"""

import argparse
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from tinymemorylm.config import Recipe, load_recipe
from tinymemorylm.corpus import BadInput, read_conversations
from tinymemorylm.evaluation.relevance import relevance
from tinymemorylm.files import write_text
from tinymemorylm.language_model import LanguageModel
from tinymemorylm.model_directory import read_config
from tinymemorylm.report.run_report import reported
from tinymemorylm.tokenizer import Message
from tinymemorylm.training.phases import train

ARMS = {
    "off": {"relevance_weight": 0.0},
    "card": {"relevance_weight": 0.1, "relevance_negatives": 1},
    "three prompts": {"relevance_weight": 0.1, "relevance_negatives": 3},
    "heavy": {"relevance_weight": 0.5, "relevance_negatives": 1},
    "heavy, three prompts": {"relevance_weight": 0.5, "relevance_negatives": 3},
}
"""What each changes in the SFT phase: weight, and prompts contrasted with the true one."""
HELD_OUT_EVERY = 10

Conversations = list[list[Message]]


def parted(sources: list[str], out: Path) -> tuple[Path, Path]:
    """Files of the conversations to tune on, and of those held out."""
    paths = out / "tuning.jsonl", out / "held-out.jsonl"
    if not all(path.exists() for path in paths):
        every = list(read_conversations(sources, bad=BadInput(skip=True)))
        held = every[::HELD_OUT_EVERY]
        rest = [talk for i, talk in enumerate(every) if i % HELD_OUT_EVERY]
        for path, talks in zip(paths, (rest, held), strict=True):
            lines = [json.dumps({"messages": [asdict(m) for m in talk]}) for talk in talks]
            write_text(path, "\n".join(lines) + "\n")
    return paths


def measure(run: Path, weights: Any, held_out: list[str]) -> dict[str, Any]:
    lm = LanguageModel.load(str(run), weights)
    rows = [
        relevance(
            lm.scorer, read_conversations([source], bad=BadInput(skip=True)), Path(source).name
        )
        for source in held_out
    ]
    return {"relevance": rows}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", type=Path, required=True, help="holds pretrain.pt")
    parser.add_argument("--chat-data", nargs="+", required=True)
    parser.add_argument("--held-out", nargs="*", default=[])
    parser.add_argument("--out", type=Path, default=Path("runs/relevance"))
    parser.add_argument("--recipe", type=Path, default=Path("haiku-plus"))
    parser.add_argument("--tokens", type=int, default=600_000, help="of SFT")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    tuning, held = parted(options.chat_data, options.out)
    held_out = [str(held), *options.held_out]
    base: Recipe = load_recipe(options.recipe)
    found = [{"arm": "before tuning", **measure(options.model, "pretrain", held_out)}]
    for seed in options.seeds:
        for arm in options.arms:
            run = options.out / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
            recipe = replace(
                base,
                seed=seed,
                chat_data=(str(tuning),),
                pretrain=replace(base.pretrain, tokens=0),
                sft=replace(base.sft, tokens=options.tokens, **ARMS[arm]),
            )
            with reported(run):
                train(recipe, run, start_from=options.model, resume=True)
            provenance = read_config(run)["provenance"]
            found.append(
                {
                    "arm": arm,
                    "seed": seed,
                    **{key: provenance[key] for key in ("tokens_seen", "seconds", "hardware")},
                    **measure(run, "model", held_out),
                }
            )
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
