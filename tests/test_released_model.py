"""The script that makes the release, and the release itself where it is there."""

import runpy
from pathlib import Path

import pytest

from tinymemorylm import load
from tinymemorylm.files import released_model
from tinymemorylm.tokenizer import Message

MAKE = Path(__file__).parents[1] / "release" / "make.py"


def exchange(prompt: str, answer: str) -> list[Message]:
    return [Message("user", prompt), Message("assistant", answer)]


def test_cleaning_keeps_plain_exchanges_once_and_few_with_one_answer():
    cleaned = runpy.run_path(str(MAKE))["cleaned"]
    kept = exchange("How are you?", "Fine,  thanks.")
    unfit = [
        exchange("HOW ARE YOU?", "fine, thanks."),
        exchange("how far is the sun", "it"),
        exchange("Write a class in Java", "Here it is."),
        exchange("Say it in French", "Ça va."),
        kept + exchange("And you?", "Too."),
    ]
    alike = [exchange(f"Bye {i}", "Bye.") for i in range(40)]
    found = list(cleaned([kept, *unfit, *alike]))
    assert found[0] == exchange("How are you?", "Fine, thanks.")
    assert found[1:] == alike[:12]


@pytest.mark.skipif(not released_model().exists(), reason="no release in this checkout")
def test_the_release_is_small_and_loads_by_default():
    folder = released_model()
    assert sum(file.stat().st_size for file in folder.iterdir()) < 12_000_000
    lm = load()
    assert lm.context_length == 2048 and lm.log_boost is None
    assert lm.chat("Hello!", temperature=0)
