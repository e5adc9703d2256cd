from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinymemorylm.splitting import coverage, tokens
from tinymemorylm.tokenizer import Tokenizer
from tinymemorylm.vocabulary import count_pre_tokens


def test_a_token_says_what_it_spells_and_whether_it_is_a_word(tokenizer: Tokenizer):
    found = tokens(tokenizer, " the q\U0001f989")
    assert b"".join(token.spelled for token in found).decode() == " the q\U0001f989"
    assert [token.text for token in found][-5:] == ["q", "<0xF0>", "<0x9F>", "<0xA6>", "<0x89>"]
    assert (found[0].text, found[0].token_class) == (" the", "word")
    assert {token.token_class for token in found[-5:]} == {"character"}


@given(st.lists(st.text("ab the,é\n 1'", max_size=30), max_size=4))
def test_coverage_from_pre_tokens_equals_the_tokens_counted(
    tokenizer: Tokenizer, documents: list[str]
):
    covered = coverage(tokenizer, count_pre_tokens(documents))
    found = [token for text in documents for token in tokens(tokenizer, text)]
    by_class = Counter(token.token_class for token in found)
    assert covered.n_tokens == len(found)
    assert covered.n_bytes == sum(len(text.encode()) for text in documents)
    assert covered.word_tokens == by_class["word"]
    assert covered.word_bytes == sum(len(t.spelled) for t in found if t.token_class == "word")


def test_what_has_no_entry_is_listed_most_frequent_first(tokenizer: Tokenizer):
    covered = coverage(tokenizer, {" the": 9, " zyx": 2, " qqq": 5, "q": 7})
    n_tokens = 9 + 2 * 4 + 5 * 4 + 7
    assert covered.spelled_out.most_common() == [(" qqq", 5), (" zyx", 2)]
    assert covered.share_of_tokens_in_words == pytest.approx(9 / n_tokens)
    assert covered.bytes_per_token == pytest.approx((36 + 8 + 20 + 7) / n_tokens)
