"""People's names: ordinary ones, and strange ones for some people of any text.

In: nothing. Out: names with their pronouns. The strange ones are too many and too rare to get
words of their own in a tokenizer, so they have to be read, and copied, letter by letter.
"""

import tomllib
from functools import cache
from hashlib import sha256
from importlib import resources
from itertools import cycle, product

PRONOUNS = ("she", "he")
N_STRANGE = 1200

_PARTS = """
B Br Ch D Dr F Fl G Gl H J K Kl L M N P Pr R S Sk T Tr V W Y Z Al Am Ed El Ib Im Ol Or Ov Us
a e i o u
b bb ck d dd ff g gr k l ll lv m mb n nd nn p pp r rk rl s sh ss st t tt v x zz
a ak ax el er ey ib in ix o ob ok on ra um us y
"""
"""Beginnings, vowels, middles and ends of strange names."""


@cache
def listed_names() -> tuple[tuple[str, str], ...]:
    """(name, pronoun) of everyone with an ordinary name."""
    source = resources.files("tinymemorylm.corpus.storyworld") / "names.toml"
    return tuple(
        (name, pronoun)
        for pronoun, names in tomllib.loads(source.read_text("utf-8")).items()
        for name in names.replace("\n", " ").strip(", ").replace(" ", "").split(",")
    )


@cache
def strange_names() -> tuple[tuple[str, str], ...]:
    """(name, pronoun) of N_STRANGE made-up people, none of them listed."""
    known = {name for name, _ in listed_names()}
    every = {"".join(parts) for parts in product(*map(str.split, _PARTS.split("\n")[1:-1]))} - known
    spread = sorted(every, key=lambda name: sha256(name.encode()).digest())
    return tuple(zip(spread[:N_STRANGE], cycle(PRONOUNS), strict=False))
