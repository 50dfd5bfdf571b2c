"""The compiled loops give the ids that the tokenizers library gives, and other tokenizers go to the library itself."""

import json
import random
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from llmhpc.tokens import ids
from llmhpc.tokens.bpe import EOS, NUMBERS, byte_letters, train_bpe, untrained
from llmhpc.tokens.ids import (
    CODE_POINTS,
    LONGEST,
    SURROGATES,
    Ids,
    kinds_of_characters,
    known_digits,
)

DTYPE = np.dtype("<u2")
ALPHABET = [
    *" \n\t\r\v\f\x1c\x1f\x7f\0\x85\xa0\u1680\u2003\u2028\u202f\u3000\u200b\ufeff",
    *"aZsStdlmreveé\u0301ßſ中文あ𝒳٣½①0129_-'\"’(){}[]<>.,;:!?#@…€🙂👍🏽\u0378",
    *("'s", "'LL", "'Re", "'ſ", "don't", "  ", "\n\n", "\r\n", "    ", "the", " of", "x1", EOS),
    *("123", "4567", "1,000.5", "12٣", "9" * 33, "9" * 35, "<|user|>", " " * 40, "ab" * 300),
]
ANY = st.characters(exclude_categories=["Cs"])  # unassigned ones too
TEXTS = st.one_of(
    st.text(ANY),
    st.lists(st.one_of(st.sampled_from(ALPHABET), ANY)).map("".join),
    st.from_regex(r"[0-9 ,.xé\-]*"),
    st.from_regex(r"([a-zé ]?'(?i:s|t|d|m|ll|re|ve|l|r|v|ſ|k)[a-z\u0301!' ]?)*", fullmatch=True),
    st.from_regex(r"[\s\x1c.a]*"),
    st.builds(lambda piece, times: piece * times, st.text(ANY), st.integers(0, 2000)),
)
relaxed = settings(
    max_examples=500, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def of_merges(merges, digits="split"):
    """A tokenizer of the bytes and ``merges``."""
    names = dict.fromkeys([*byte_letters(), *(a + b for a, b in merges)])
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = untrained(models.BPE(vocab=vocabulary, merges=merges), digits)
    tokenizer.encode_special_tokens = True
    return tokenizer


@pytest.fixture(scope="module", params=NUMBERS)
def tokenizer(prose, request):
    texts = [document["text"] for document in prose(60)]
    code = "def f(x):\n    return {'a': x + 1}  # don't\n\n\n" * 20
    vocab_size = {"split": 600, "up_to_999": 1700}[request.param]
    tokenizer = train_bpe([*texts, code, code.upper()], vocab_size, request.param, 24, ["<|user|>"])
    tokenizer.encode_special_tokens = True
    assert known_digits(tokenizer) == request.param
    return tokenizer


@pytest.fixture(scope="module")
def quick(tokenizer):
    return Ids(tokenizer, DTYPE)


def differing(quick, texts):
    """Texts whose ids are not the library's."""
    found, wanted = quick.encode(texts, 7), quick.reference(texts, 7)
    assert all(row.dtype == DTYPE for row in found)
    pairs = zip(texts, found, wanted, strict=True)
    return [text for text, a, b in pairs if not np.array_equal(a, b)]


def test_any_mixture_of_characters_gets_the_librarys_ids(quick):
    draw = random.Random(0)
    texts = ["".join(draw.choices(ALPHABET, k=draw.randint(1, 40))) for _ in range(20_000)]
    assert differing(quick, ["", *texts, ""]) == []


@relaxed
@given(texts=st.lists(TEXTS, max_size=3))
def test_any_texts_at_all_get_the_librarys_ids(quick, texts):
    assert differing(quick, texts) == []


def test_characters_of_each_kind_are_cut_as_the_library_does(quick):
    kinds = kinds_of_characters()
    change = np.flatnonzero(np.diff(kinds)) + 1
    codes = {*change, *(change - 1), *range(0, CODE_POINTS, 97)} - {*SURROGATES}
    texts = [f"a'{c} {c}{c} \n{c}'s{c}'l{c}1" for c in map(chr, sorted(codes))]
    assert differing(quick, texts) == []


@given(data=st.data())
@settings(max_examples=100, deadline=None)
def test_any_merges_are_done_in_the_librarys_order(data):
    names, merges = list("abcd"), []
    for _ in range(data.draw(st.integers(0, 30))):
        pair = data.draw(st.tuples(st.sampled_from(names), st.sampled_from(names)))
        merges.append(pair)
        names.append("".join(pair))
    quick = Ids(of_merges(list(dict.fromkeys(merges))), DTYPE)
    assert differing(quick, data.draw(st.lists(st.text("abcd", max_size=60), max_size=20))) == []


def test_a_pair_that_is_not_listed_is_not_merged_though_its_token_is_there():
    quick = Ids(of_merges([("b", "c"), ("a", "bc"), ("a", "b")]), DTYPE)
    assert differing(quick, ["abc", "ab", "aab", "abbc"]) == []
    twice = [("c", "d"), ("b", "c"), ("b", "cd"), ("bc", "d"), ("a", "b")]
    assert differing(Ids(of_merges(twice), DTYPE), ["abcd", "bcd", "abc", "aabcdd"]) == []


def test_pieces_that_share_a_place_in_memory_do_not_get_each_others_ids(tokenizer, monkeypatch):
    monkeypatch.setattr(ids, "SLOTS", 2)
    quick = Ids(tokenizer, DTYPE)
    texts = ["one two three four five six", "seven one two eight", "one nine one one"]
    long = [("é" * n + " ") * 2 + "x" * n + " " + "x" * n for n in range(LONGEST + 3)]
    assert differing(quick, texts + long + texts) == []


def test_a_text_that_is_no_unicode_is_refused_either_way(quick):
    for encode in (quick.encode, quick.reference):
        with pytest.raises((UnicodeEncodeError, TypeError)):
            encode(["\ud800"], 0)


def with_setting(name, value):
    def change(content):
        content["model"][name] = value

    return change


def without_a_byte(content):
    del content["model"]["vocab"]["Ģ"]


FOREIGN = {
    "dropout": with_setting("dropout", 0.5),
    "byte fallback": with_setting("byte_fallback", True),
    "no merges for known words": with_setting("ignore_merges", True),
    "marked parts of words": with_setting("continuing_subword_prefix", "##"),
    "without a byte": without_a_byte,
}


@pytest.mark.parametrize("change", FOREIGN.values(), ids=FOREIGN)
def test_a_model_that_merges_differently_is_not_taken_for_ours(change):
    ours = of_merges([])
    assert known_digits(ours) == "split"
    content = json.loads(ours.to_str())
    change(content)
    changed = Tokenizer.from_str(json.dumps(content))
    changed.encode_special_tokens = True
    assert known_digits(changed) is None


STEPS = {
    "GPT-2's pattern": lambda t: setattr(t, "pre_tokenizer", pre_tokenizers.ByteLevel(False)),
    "a normalizer": lambda t: setattr(t, "normalizer", normalizers.Lowercase()),
    "an added token": lambda t: t.add_tokens(["the whole phrase"]),
    "special tokens are read": lambda t: setattr(t, "encode_special_tokens", False),
    "truncation": lambda t: t.enable_truncation(3),
    "padding": lambda t: t.enable_padding(length=9),
}


@pytest.mark.parametrize("change", STEPS.values(), ids=STEPS)
def test_a_tokenizer_that_treats_texts_differently_gets_the_librarys_ids(tokenizer, change):
    other = Tokenizer.from_str(tokenizer.to_str())
    other.encode_special_tokens = True
    assert known_digits(other)
    change(other)
    assert known_digits(other) is None
    texts = ["That's The whole phrase,  so\n 1234 of it", EOS, "the whole phrase"]
    assert differing(Ids(other, DTYPE), texts) == []


def test_a_tokenizer_of_another_kind_gets_the_librarys_ids():
    other = Tokenizer(models.WordLevel({"a": 0, "?": 1}, unk_token="?"))
    other.pre_tokenizer = pre_tokenizers.Whitespace()
    other.add_special_tokens([AddedToken(EOS, special=True)])
    assert known_digits(other) is None
    assert [list(found) for found in Ids(other, DTYPE).encode(["a b a"], 5)] == [[0, 1, 0, 5]]


def test_numba_is_loaded_by_what_tokenizes_only():
    code = (
        "import sys, llmhpc.tokens.encode, llmhpc.tokens.inspection, llmhpc.train.stream;"
        "print('numba' in sys.modules)"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True) == "False\n"
