"""Encoding by words gives the ids that the tokenizer itself gives."""

import random

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import pre_tokenizers

from llmhpc.tokens import words
from llmhpc.tokens.bpe import EOS, NUMBERS, train_bpe
from llmhpc.tokens.encode import Encoder

DTYPE = np.dtype("<u2")
ALPHABET = [
    *" \n\t\r\v\f\x1c\x1f\x7f\0\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b\ufeff",
    *"aZsStdlmreveé\u0301ßſ中文あ𝒳٣½①0129_-'\"’(){}[]<>.,;:!?#@…€🙂👍🏽\u0378",
    *("'s", "'LL", "don't", "  ", "\n\n", "\r\n", "    ", "the", " of", "x1", EOS),
    *("123", "4567", "1,000.5", "12٣", "9" * 33, "9" * 35, "<|user|>"),
]


@pytest.fixture(scope="module", params=NUMBERS)
def tokenizer(prose, request):
    texts = [document["text"] for document in prose(60)]
    code = "def f(x):\n    return {'a': x + 1}  # don't\n\n\n" * 20
    vocab_size = {"split": 600, "up_to_999": 1700}[request.param]
    tokenizer = train_bpe([*texts, code, code.upper()], vocab_size, request.param, 24, ["<|user|>"])
    tokenizer.encode_special_tokens = True
    return tokenizer


def encoder(tokenizer):
    quick = words.Words(tokenizer, DTYPE)
    return Encoder(tokenizer=tokenizer, eos_id=0, vocab_size=600, dtype=DTYPE, words=quick)


def test_any_mixture_of_characters_gets_the_tokenizers_own_ids(tokenizer):
    draw = random.Random(0)
    texts = ["", *("".join(draw.choices(ALPHABET, k=draw.randint(1, 40))) for _ in range(20_000))]
    both = encoder(tokenizer)
    for text, quick, slow in zip(texts, both.encode(texts), both.reference(texts), strict=True):
        assert np.array_equal(quick, slow), repr(text)


@settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.one_of(
        st.text(), st.lists(st.sampled_from(ALPHABET)).map("".join), st.from_regex(r"[0-9 ,.xé-]*")
    )
)
def test_any_text_at_all_gets_the_tokenizers_own_ids(tokenizer, text):
    both = encoder(tokenizer)
    assert both.encode([text])[0].tolist() == both.reference([text])[0].tolist()


def test_what_is_forgotten_is_learnt_again(tokenizer, monkeypatch):
    monkeypatch.setattr(words, "REMEMBERED", 3)
    both = encoder(tokenizer)
    texts = ["one two three four five six", "seven one two eight", "one nine"]
    for text in texts:
        assert np.array_equal(both.encode([text])[0], both.reference([text])[0])


def test_a_tokenizer_that_cuts_texts_differently_is_not_taken_for_a_known_one(tokenizer):
    assert words.has_known_pieces(tokenizer)
    other = type(tokenizer).from_str(tokenizer.to_str())
    other.pre_tokenizer = pre_tokenizers.ByteLevel()
    assert not words.has_known_pieces(other)
    added = type(tokenizer).from_str(tokenizer.to_str())
    added.add_tokens(["the whole phrase"])
    assert not words.has_known_pieces(added)
