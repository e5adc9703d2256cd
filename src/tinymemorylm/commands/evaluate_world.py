"""The parts of `tmlm eval` that the procedural world measures, with their options.

In: a model. Out: rows on stories of known entropy, on recall, and on answers about stories.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tinymemorylm.commands.options import ModelOptions
from tinymemorylm.errors import InputError

if TYPE_CHECKING:
    from tinymemorylm.language_model import LanguageModel

Rows = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class WorldOptions(ModelOptions):
    storyworld: tuple[str, ...] = ()
    """New stories as SEED:BYTES, such as 7:1MB: the gap between the model and their entropy."""
    recall: bool = False
    """Whether a fact told is still known after up to 1,900 tokens of stories."""
    faithfulness: bool = False
    """How many answers about a story told are right, contradict it or invent (tuned weights)."""

    def world_parts(self) -> Iterator[tuple[str, Callable[["LanguageModel"], Rows]]]:
        """The parts asked for. Raises InputError where one lacks what it needs."""
        if self.storyworld:
            for source in self.storyworld:
                _seed_and_bytes(source)
            yield "storyworld", self._storyworld
        if self.recall:
            yield "recall", self._recall
        if self.faithfulness:
            if not self._tuned():
                raise InputError(
                    "--faithfulness asks questions in a chat: give it tuned weights, not pretrain"
                )
            yield "faithfulness", self._faithfulness

    def _tuned(self) -> bool:
        from tinymemorylm.model_directory import default_weights, read_config

        read_config(self.folder)  # says so where there is no model at all
        return (self.weights or default_weights(self.folder)) == "model"

    def _storyworld(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.corpus.storyworld import stories
        from tinymemorylm.evaluation.storyworld import gap, score_stories
        from tinymemorylm.progress import watched

        rows = []
        for source in self.storyworld:
            seed, n_bytes = _seed_and_bytes(source)
            self._warn_of_training_on(seed)
            began = time.perf_counter()
            name = f"storyworld:{source}"
            drawn = watched(name, stories(seed, n_bytes), lambda s: len(s.text), n_bytes)
            found = gap(score_stories(lm.scorer, drawn))
            seconds = round(time.perf_counter() - began, 1)
            rows.append({"path": name, **found, "seconds": seconds})
        return rows

    def _warn_of_training_on(self, seed: int) -> None:
        from tinymemorylm.model_directory import read_config
        from tinymemorylm.progress import log

        data = read_config(self.folder).get("provenance", {}).get("data", {})
        for source in data.get("sources", ()):
            if source.startswith(f"storyworld:{seed}:"):
                log(
                    f"warning: this model was trained on {source}, which may hold the same "
                    "stories: choose another seed"
                )

    def _recall(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.recall import recall

        return recall(lm.scorer, chat=self._tuned())

    def _faithfulness(self, lm: "LanguageModel") -> Rows:
        from tinymemorylm.evaluation.faithfulness import MAX_NEW_TOKENS, faithfulness, questions

        asked = list(questions())
        longest = max(map(len, lm.tokenizer.encode_batch([q.message for q in asked])))
        if longest + MAX_NEW_TOKENS > lm.context_length - 3:  # with <bos> and two roles
            raise InputError(
                f"--faithfulness tells stories of up to {longest} tokens: too many for a context "
                f"of {lm.context_length}"
            )

        def answer(message: str) -> str:
            return lm.chat(message, temperature=0, max_new_tokens=MAX_NEW_TOKENS)

        return faithfulness(asked, answer)


def _seed_and_bytes(source: str) -> tuple[int, int]:
    from tinymemorylm.corpus import parse_storyworld

    try:
        parsed = parse_storyworld(f"storyworld:{source}")
    except InputError:
        parsed = None
    if parsed is None:
        raise InputError(f"--storyworld {source}: write SEED:BYTES, such as 7:1MB")
    return parsed
