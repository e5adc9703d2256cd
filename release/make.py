"""Makes release/haiku: the model that comes with the project, from text to model card.

In: a folder of texts and chat sets (DATA below says which, from where and under which licence),
and a folder to train in. Out: release/haiku. Interrupted, the same command goes on.

Run: python release/make.py --data DATA --run runs/haiku
"""

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from tinymemorylm.cli import main as tmlm
from tinymemorylm.config import load_recipe
from tinymemorylm.corpus import BadInput, read_conversations
from tinymemorylm.files import released_model, write_text
from tinymemorylm.report.release import release
from tinymemorylm.report.run_report import reported
from tinymemorylm.tokenizer import Message
from tinymemorylm.training.phases import train

TEXTS = (
    "train/children_books.txt.xz",
    "train/folk_tales.txt.xz",
    "train/short_fiction.txt.xz",
    "train/sentences.txt.xz",
)
CHATS = ("rasbt_instruct", "chatterbot", "chitchat_friendly")
CHAT_SHARES = 3
"""How often each cleaned chat set is given, beside one pass of the procedural conversations."""
PROCEDURAL = "storyworld:2:6MB"
HELD_OUT = "eval/children_dev.txt"
NOTES = (
    "Pretrained on children's books, folk tales and short fiction from Project Gutenberg (public "
    "domain in the USA; by way of the GITenberg repositories, templeoflum/mythic-library and "
    "xenotaur/LCATS) and on English sentences of Tatoeba (CC BY 2.0 FR). Lines that share a run of "
    "13 words with an evaluation text were left out.",
    "Tuned on instructions of rasbt/LLMs-from-scratch (Apache-2.0), chatterbot-corpus (BSD), "
    "Microsoft's personality chat, friendly (MIT), each cleaned by `release/make.py`, and on "
    "conversations that the package writes itself (`storyworld`).",
)
MOST_ALIKE = 12
"""Prompts kept for one and the same answer: a few canned ones would drown the rest."""
UNFIT = re.compile(
    r"```|https?:|\b(?:sex\w*|drunk|stoned|intoxicated|kill|murder|suicide|naked|porn\w*|stupid|"
    r"hate|nazi|hitler|drugs?|translate|code|python|javascript|typescript|java|html|sql)\b",
    re.IGNORECASE,
)


def cleaned(conversations: Iterable[list[Message]]) -> Iterator[list[Message]]:
    """Plain short English exchanges, each once, and no answer more than MOST_ALIKE times."""
    seen: set[tuple[str, str]] = set()
    alike: Counter[str] = Counter()
    for conversation in conversations:
        if len(conversation) != 2:
            continue
        prompt, answer = (" ".join(message.content.split()) for message in conversation)
        exchange = prompt.lower(), answer.lower()
        fit = (
            2 < len(prompt) <= 300
            and 2 < len(answer) <= 240
            and (prompt + answer).isascii()
            and answer[0].isupper()
            and not UNFIT.search(prompt + " " + answer)
        )
        if fit and exchange not in seen and alike[answer] < MOST_ALIKE:
            seen.add(exchange)
            alike[answer] += 1
            yield [Message("user", prompt), Message("assistant", answer)]


def write_cleaned(source: Path, target: Path) -> None:
    lines = [
        json.dumps({"messages": [{"role": m.role, "content": m.content} for m in conversation]})
        for conversation in cleaned(read_conversations([str(source)], bad=BadInput(skip=True)))
    ]
    write_text(target, "\n".join(lines) + "\n")
    print(f"{target.name}: {len(lines):,} exchanges")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="holds train/, chat/ and eval/")
    parser.add_argument("--run", type=Path, default=Path("runs/haiku"), help="where to train")
    options = parser.parse_args()
    run, out = options.run.resolve(), released_model().resolve()

    # Sources are noted in the model directory as given: from inside the folder, without its path.
    os.chdir(options.data)
    chats = []
    for name in CHATS:
        target = run.parent / f"{run.name}-chats" / f"{name}.jsonl"
        write_cleaned(Path("chat") / f"{name}.jsonl", target)
        chats += [os.path.relpath(target)] * CHAT_SHARES
    recipe = replace(
        load_recipe(Path("haiku-plus")),
        data=TEXTS,
        chat_data=(PROCEDURAL, *chats),
        data_notes=NOTES,
    )
    with reported(run):
        train(recipe, run, resume=True)
    for weights in ("pretrain", "model"):
        measured = ["--text", HELD_OUT, "--by-position", "--append-card", "--weights", weights]
        assert tmlm(["eval", "--model", str(run), *measured]) == 0
    release(run, out)
    size = sum(file.stat().st_size for file in out.iterdir())
    print(f"{out}: {size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
