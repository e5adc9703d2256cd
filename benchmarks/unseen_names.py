"""How many of three names it never saw a chat model repeats in a greeting, as JSON.

Run: python benchmarks/unseen_names.py runs/quickstart > benchmarks/results/unseen_names.json
"""

import json
import random
import sys

from tinymemorylm import load
from tinymemorylm.corpus.storyworld.names import listed_names, strange_names

NAMES = """
Zibby Orlak Pemmo Quorra Tivvi Brondel Saskri Wuppo Dravik Ellomi Fenwip Gorska Hilbry Jandro Kessli
Lurvo Mindra Noppel Ostrin Prulla Rikvo Sembry Tolvik Ursik Velmo Wixby Yorvin Zandle Bixo Cormi
Deppa Fralla
"""
REQUESTS = (
    "My friends are {}, {} and {}. Please say hello to them.",
    "Please say hello to {}, {} and {}.",
    "Can you greet {}, {} and {}?",
    "I am here with {}, {} and {}.",
)
N_GREETINGS = 24


def main(directory: str) -> None:
    names = NAMES.split()
    assert not {*names} & {name for name, _ in listed_names() + strange_names()}
    lm = load(directory)
    choice = random.Random(1)
    greetings, named = [], []
    for i in range(N_GREETINGS):
        three = choice.sample(names, 3)
        request = REQUESTS[i % len(REQUESTS)].format(*three)
        answer = lm.chat(request, temperature=0, max_new_tokens=60)
        named.append(sum(name in answer for name in three))
        greetings.append({"request": request, "answer": answer})
    report = {
        "greetings": N_GREETINGS,
        "all_three_named": named.count(3),
        "names": 3 * N_GREETINGS,
        "named": sum(named),
        "answers": greetings,
    }
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(sys.argv[1])
