"""Words and sentences put together from stretches met before are spaCy's own."""

import random
from itertools import product

import pytest
from datatrove.utils.text import split_into_sentences, split_into_words
from datatrove.utils.typeshelper import Languages
from datatrove.utils.word_tokenizers import load_word_tokenizer
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.filters import Splitter
from llmhpc.filters.blocks import words

# Without rows of brackets and colons: see blocks/words.py on emoticons.
PARTS = [
    *[
        "the",
        "a",
        "don't",
        "U.S.A.",
        "e.g.",
        "it's",
        "I'm",
        "o'clock",
        "Mr.",
        "3.14",
        "$5",
        "50%",
        "x=y",
        "f(x)",
        "[1]",
        "...",
        "…",
        "!",
        "?",
        ".",
    ],
    *[
        "?!",
        "--",
        "—",
        "http://e.org/a.b?c=d",
        "a@b.org",
        "C++",
        "#tag",
        "10km",
        "1,000",
        "can",
        "not",
        "gonna",
        "we’ll",
        "“so”",
    ],
    *(
        "Ünïcode",
        "中文。",
        "नमस्ते।",
        "🙂",
        "under_score",
        "a/b",
        "x-y",
        "A.B",
        "end.Next",
        "(so",
        "so),",
    ),
]
BLANKS = [" "] * 20 + ["  ", "\n", "\t", "\u00a0", "\u3000", "\x1c", "\r\n", "\n\n"]


def mixtures(count):
    draw = random.Random(1)
    for _ in range(count):
        parts = draw.choices(PARTS, k=draw.randint(0, 30))
        yield "".join(part + draw.choice([*BLANKS, ""]) for part in parts)


def test_words_and_sentences_are_those_of_spacy():
    reference = load_word_tokenizer(Languages.english)
    texts = list(mixtures(1500))
    texts += [text.strip() for text in texts]
    expected = [(reference.word_tokenize(text), reference.span_tokenize(text)) for text in texts]
    with words.splitting(Splitter.remembered):
        assert "word_tokenize" in vars(reference)
        for text, (its_words, its_spans) in zip(texts, expected, strict=True):
            assert reference.word_tokenize(text) == its_words, repr(text)
            assert reference.span_tokenize(text) == its_spans, repr(text)
    assert "word_tokenize" not in vars(reference)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"]), max_size=12), max_size=20))
def test_stretches_learnt_together_are_split_as_each_alone(texts):
    reference = load_word_tokenizer(Languages.english)
    stretches = [stretch for text in texts for stretch in text.split()]
    alone = [token.text for part in stretches for token in reference.tokenizer.tokenizer(part)]
    assert words.Memory(reference).word_tokenize(" ".join(stretches)) == alone


def test_what_is_forgotten_is_learnt_again(monkeypatch):
    monkeypatch.setattr(words, "REMEMBERED", 4)
    memory = words.Memory(load_word_tokenizer(Languages.english))
    assert memory.word_tokenize("one two. three four") == ["one", "two", ".", "three", "four"]
    assert memory.word_tokenize("one five two.") == ["one", "five", "two", "."]
    assert memory.span_tokenize("One. Two six.") == [(0, 4), (5, 13)]


@pytest.mark.parametrize("by", list(Splitter))
def test_the_splitter_of_a_stage_is_what_its_blocks_ask(by):
    with words.splitting(by):
        remembers = "word_tokenize" in vars(load_word_tokenizer(Languages.english))
        assert remembers == (by is Splitter.remembered)
        assert split_into_words("It's so. Yes!") == ["It", "'s", "so", ".", "Yes", "!"]
        assert split_into_sentences("It's so. Yes!") == ["It's so.", " Yes!"]


def test_the_shorter_search_finds_the_suffixes_that_spacys_finds():
    search = load_word_tokenizer(Languages.english).tokenizer.tokenizer.suffix_search
    found, draw = words.at_end(search), random.Random(2)
    ends = [
        "km",
        "m/s",
        "µm",
        "km²",
        "'s",
        "’s",
        "'S",
        "..",
        "...",
        "''",
        "AA",
        *'5"€+),]sKé_-…°.;}`#*&—”🙂a',
    ]
    made = ["".join(parts) for parts in product(ends, repeat=3)]
    made += [
        "".join(draw.choices("aTsSmK5.,'’_-/)(]…µ²+%\"é$ ", k=draw.randint(0, 13)))
        for _ in range(20000)
    ]
    for text in [*made, *PARTS, "." * 40, "a" * 40]:
        expected, ours = search(text), found(text)
        assert (expected and expected.span()) == (ours and ours.span()), repr(text)
