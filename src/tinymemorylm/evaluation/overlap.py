"""Whether a text was trained on: runs of 13 words that it shares with training texts.

In: evaluation texts and training documents. Out: for each text the share of its runs of words
that occur in the training documents too.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b

N_WORDS = 13
"""As the deduplication of GPT-3's evaluation sets has it (Brown et al. 2020, appendix C)."""


def runs(text: str, n: int = N_WORDS) -> set[bytes]:
    """Digests of all runs of n words, case and punctuation set aside."""
    words = re.findall(r"\w+", text.lower())
    return {
        blake2b(" ".join(words[i : i + n]).encode(), digest_size=8).digest()
        for i in range(len(words) - n + 1)
    }


def overlap(
    texts: Mapping[str, Iterable[str]], training: Iterable[str], n: int = N_WORDS
) -> Sequence[dict[str, object]]:
    """A row for each text, by the name it is given under: its distinct runs, and those shared."""
    own = {name: set().union(*(runs(d, n) for d in documents)) for name, documents in texts.items()}
    wanted = set().union(*own.values())
    seen: set[bytes] = set()
    for document in training:
        seen |= runs(document, n) & wanted
    return [
        {
            "path": name,
            "runs": len(found),
            "shared": len(found & seen),
            "share": round(len(found & seen) / max(1, len(found)), 6),
        }
        for name, found in own.items()
    ]
