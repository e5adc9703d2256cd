"""Names: strange ones are many, unlike the ordinary ones, and take their share."""

import re

from tinymemorylm.corpus.storyworld import stories
from tinymemorylm.corpus.storyworld.names import N_STRANGE, listed_names, strange_names
from tinymemorylm.corpus.storyworld.stories import STRANGE_SHARE

LISTED, STRANGE = ({name for name, _ in names} for names in (listed_names(), strange_names()))


def test_strange_names_are_distinct_pronounceable_and_nobody_elses():
    assert len(STRANGE) == N_STRANGE == len(strange_names())
    assert not STRANGE & LISTED
    assert all(re.fullmatch(r"[A-Z][a-z]{3,}", name) for name in STRANGE)
    assert {"A", "E", "I", "O", "U"} <= {name[0] for name in STRANGE}


def test_people_of_stories_have_strange_names_in_their_share():
    people = [
        name
        for story in stories(5, 400_000)
        for name in dict.fromkeys(re.findall(r"[A-Z][a-z]+", story.text))
        if name in LISTED | STRANGE
    ]
    share = sum(name in STRANGE for name in people) / len(people)
    assert abs(share - STRANGE_SHARE) < 0.03
