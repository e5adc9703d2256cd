"""The procedural corpus: simple stories, and conversations about them and about everyday things.

In: a seed and a number of bytes. Out: documents, each an independent draw from fixed grammars,
with the exact bits of its choices.
"""

from tinymemorylm.corpus.storyworld.choices import Choices
from tinymemorylm.corpus.storyworld.conversations import (
    Conversation,
    conversations,
    story_conversation,
)
from tinymemorylm.corpus.storyworld.stories import Story, stories, story

__all__ = [
    "Choices",
    "Conversation",
    "Story",
    "conversations",
    "stories",
    "story",
    "story_conversation",
]
