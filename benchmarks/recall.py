"""Does a global layer carry a fact over a distance that windows of 512 have to relay?

Trains recipe `quickstart` with its global layers and with windows alone, at each seed, both tuned
at 2,048 on conversations in which facts are told, stories follow, and questions ask for the facts;
then asks for facts never seen (`tmlm eval --recall`). Interrupted, the same command goes on.

Run: python benchmarks/recall.py --out runs/recall > benchmarks/results/recall.json
"""

import argparse
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

from tinymemorylm.config import Architecture, Recipe, load_recipe, shipped_recipe
from tinymemorylm.corpus.storyworld import Choices, story
from tinymemorylm.corpus.storyworld.conversations import chats
from tinymemorylm.evaluation.recall import CHAT, KINDS, recall, sentences
from tinymemorylm.evaluation.scoring import Scorer
from tinymemorylm.files import write_text
from tinymemorylm.model_directory import load_model, read_config
from tinymemorylm.report.run_report import reported
from tinymemorylm.training.phases import train

ARMS = {"global": Architecture(), "window": Architecture(global_every=17)}
"""Every 17th of 16 layers is global: none."""
LENGTHS = (0, 200, 400, 800, 1600, 3200, 5600)
"""Bytes of the stories between facts; a token is about 4."""
MOST_FACTS = 4
N_TELLINGS = 2000

Fact = dict[str, str]


def telling(choices: Choices) -> list[dict[str, str]]:
    """A conversation: facts scattered in stories, then a question for each, in any order."""
    lists = {kind: [entry.text for entry in chats()[0][1].lists[kind]] for kind in KINDS}
    facts: list[Fact] = []
    for _ in range(1 + choices.index(MOST_FACTS)):
        fact = {kind: choices.pick(words) for kind, words in lists.items()}
        if all(fact["name"] != f["name"] and fact["thing"] != f["thing"] for f in facts):
            facts.append(fact)
    told = list(between(choices, choices.pick(LENGTHS), facts))
    for fact in facts[1:]:
        told.insert(choices.index(len(told) + 1), " " + CHAT.fact.format_map(fact))
    said = CHAT.fact.format_map(facts[0]) + "".join(told)
    turns = []
    while facts:
        question, answer = exchange(facts.pop(choices.index(len(facts))), choices.pick(KINDS))
        turns += [("user", f"{said} {question}".strip()), ("assistant", answer)]
        said = ""
    return [{"role": role, "content": content} for role, content in turns]


def between(choices: Choices, n_bytes: int, facts: list[Fact]) -> Iterator[str]:
    """Sentences of stories that hold no word of the facts, each with its space before it."""
    unwanted = {word.lower() for fact in facts for word in fact.values()}
    while n_bytes > 0:
        text = story(choices).text
        if unwanted & set(re.findall(r"\w+", text.lower())):
            continue
        for sentence in sentences("\n" + text):
            n_bytes -= len(sentence)
            if n_bytes < 0:
                return
            yield sentence


def exchange(fact: Fact, kind: str) -> tuple[str, str]:
    """The question for one part of a fact, and its answer."""
    question, begun = (wording.format_map(fact) for wording in CHAT.ask[kind])
    end = f" has the {fact['thing']}." if kind == "name" else "."
    return question, f"{begun} {fact[kind]}{end}".strip()


def recipe(arm: str, seed: int, chats: Path) -> Recipe:
    """The quickstart's, with 30% of pretraining and all of SFT at the full context."""
    base = load_recipe(shipped_recipe("quickstart"))
    return replace(
        base,
        name=f"recall-{arm}",
        seed=seed,
        architecture=ARMS[arm],
        chat_data=("storyworld:2:1500KB", str(chats)),
        pretrain=replace(base.pretrain, long_share=0.3),
        sft=replace(base.sft, tokens=1_000_000, batch_size=1, sequence_length=2048, long_share=0),
    )


def measure(run: Path) -> dict[str, Any]:
    model, tokenizer = load_model(run, "model")
    config = read_config(run)
    provenance = config["provenance"]
    return {
        "parameters": config["parameters"]["total"],
        "tokens": provenance["tokens_seen"],
        "seconds": provenance["seconds"],
        "hardware": provenance["hardware"],
        "recall": recall(Scorer(model, tokenizer), chat=True),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=Path("runs/recall"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--arms", nargs="+", choices=ARMS, default=list(ARMS))
    options = parser.parse_args()
    chats = options.out / "tellings.jsonl"
    if not chats.exists():
        lines = (
            json.dumps({"messages": telling(Choices(f"telling:{i}"))}) for i in range(N_TELLINGS)
        )
        write_text(chats, "\n".join(lines) + "\n")
    found = []
    for seed in options.seeds:
        for arm in options.arms:
            run = options.out / f"{arm}-{seed}"
            with reported(run):
                train(recipe(arm, seed, chats), run, resume=True)
            found.append({"arm": arm, "seed": seed, **measure(run)})
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
