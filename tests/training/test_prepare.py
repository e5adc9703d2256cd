import json
from pathlib import Path

import pytest

from tinymemorylm.corpus.storyworld import conversations, stories
from tinymemorylm.errors import InputError
from tinymemorylm.training.prepare import texts_of_run


def test_texts_of_a_run_are_its_recipes_texts_and_conversations(finished_run: Path):
    chats = [content for chat in conversations(2, 20_000) for _, content in chat.turns]
    assert list(texts_of_run(finished_run)) == [s.text for s in stories(1, 40_000)] + chats


@pytest.mark.parametrize(
    ("source", "why"),
    [
        ("nowhere.txt", "nowhere.txt: no such file"),
        ("tinystories?bytes=1MB", "tinystories.* is a data set of the hub"),
    ],
)
def test_texts_that_are_not_at_hand_are_named(
    finished_run: Path, tmp_path: Path, source: str, why: str
):
    with pytest.raises(InputError, match=r"recipe\.json: no such file"):
        next(texts_of_run(tmp_path))
    recipe = json.loads((finished_run / "recipe.json").read_text())
    (tmp_path / "recipe.json").write_text(json.dumps({**recipe, "data": [source]}))
    with pytest.raises(InputError, match=why):
        next(texts_of_run(tmp_path))
