from tinymemorylm.evaluation.words import invented, known_words, storyworld_words, words
from tinymemorylm.tokenizer import Tokenizer


def test_words_are_letters_and_digits_with_apostrophes_within():
    assert words("\u201cDon\u2019t,\u201d said THE o'clock-dog's 3rd_été.") == [
        *["don't", "said", "the", "o'clock", "dog's", "3rd", "été"]
    ]


def test_invented_words_are_those_of_letters_that_are_not_known():
    known = {"the", "dog", "don't"}
    assert invented("The dog's dogs don't bark, 2nd flurb!", known) == (3, 6)
    assert invented("...", known) == (0, 0)


def test_known_are_the_words_of_the_texts_and_the_tokenizers_entries(tokenizer: Tokenizer):
    assert " the" in {tokenizer.decode([id]) for id in range(tokenizer.vocab_size)}
    bare, more = (known_words(tokenizer, texts) for texts in ([], ["A flurb, a Glim."]))
    assert "the" in bare and more - bare == {"flurb", "glim"}


def test_nearly_all_words_of_the_storyworld_are_in_its_tables(
    tokenizer: Tokenizer, texts: list[str]
):
    unknown, total = invented("\n".join(texts), known_words(tokenizer, storyworld_words()))
    assert total > 5000 and unknown / total < 0.02  # strange names
