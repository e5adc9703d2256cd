"""Figures and twenty unselected documents of the embedded corpus, as Markdown.

Run: python benchmarks/storyworld.py > docs/storyworld.md
"""

import re
from collections import Counter
from itertools import islice

from tinymemorylm.corpus.storyworld import conversations, stories
from tinymemorylm.vocabulary import count_pre_tokens

SEED = 7
N_BYTES = 10_000_000
WINDOW = 300_000


def windows(texts: list[str]) -> list[list[str]]:
    """The texts in runs of at least WINDOW bytes; what is left over is dropped."""
    runs: list[list[str]] = []
    run: list[str] = []
    size = 0
    for text in texts:
        run.append(text)
        size += len(text.encode())
        if size >= WINDOW:
            runs.append(run)
            run, size = [], 0
    return runs


def main() -> None:
    told = list(stories(SEED, N_BYTES))
    texts = [story.text for story in told]
    n_bytes = sum(len(text.encode()) for text in texts)
    types = Counter(word.lower() for text in texts for word in re.findall(r"[A-Za-z']+", text))
    distinct = [len(count_pre_tokens(run)) for run in windows(texts)]
    chats = list(conversations(SEED, 1_000_000))
    chat_bytes = sum(len(content.encode()) for chat in chats for _, content in chat.turns)
    print(f"""# Storyworld

The corpus in the package, `storyworld:SEED:BYTES`: short stories for pretraining, conversations for
SFT, drawn from fixed grammars (`src/tinymemorylm/corpus/storyworld/`). Every document is an
independent draw, every choice shows in the text, and each document carries the bits of its choices.

Figures of `storyworld:{SEED}:{n_bytes}`, by `python benchmarks/storyworld.py`:

| | |
|---|---|
| stories | {len(texts):,}, all different: {len(set(texts)) == len(texts)} |
| words per story | {sum(len(t.split()) for t in texts) / len(texts):.0f} on average |
| entropy of the source | {sum(s.bits for s in told) / n_bytes:.3f} bits per byte |
| word types | {len(types):,} |
| distinct pre-tokens in 300 KB | {min(distinct):,} at least, over {len(distinct)} windows |
| conversations in 1 MB | {len(chats):,}, {len({c.turns for c in chats}):,} of them different |
| entropy of the conversations | {sum(c.bits for c in chats) / chat_bytes:.3f} bits per byte |

## Twenty documents, unselected

The first ten stories and the first ten conversations of seed {SEED}.
""")
    for number, text in enumerate(texts[:10], 1):
        quoted = "\n> ".join(text.split("\n"))
        print(f"{number}.\n> {quoted}\n")
    for number, chat in enumerate(islice(chats, 10), 11):
        print(f"{number}.")
        for role, content in chat.turns:
            joined = content.replace("\n", " / ")
            print(f"> **{role}**: {joined}\n>")
        print()


if __name__ == "__main__":
    main()
