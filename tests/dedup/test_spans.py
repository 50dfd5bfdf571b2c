"""Cutting spans out of a text takes what they cover and nothing else, and never a part of a character."""

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.dedup.blocks.repeats import union, without
from llmhpc.dedup.blocks.units import Bytes

PROPERTY = settings(max_examples=200, deadline=None, derandomize=True)
TEXTS = st.text(st.sampled_from("abé漢🙂 \n"), min_size=1, max_size=40)


@st.composite
def texts_with_ranges(draw):
    text = draw(TEXTS)
    size = len(text.encode())
    ends = st.tuples(st.integers(0, size - 1), st.integers(1, size))
    ranges = draw(st.lists(ends.filter(lambda pair: pair[0] < pair[1]), max_size=5))
    return text, ranges


@PROPERTY
@given(texts_with_ranges())
def test_the_characters_that_lie_in_a_span_go_and_all_others_stay(case):
    text, ranges = case
    spans = [Bytes().characters(text)(start, end) for start, end in union(map(list, ranges))]
    covered = {byte for start, end in ranges for byte in range(start, end)}
    kept, at = [], 0
    for character in text:
        size = len(character.encode())
        if not covered.issuperset(range(at, at + size)):
            kept.append(character)
        at += size
    assert without(text, [(start, end) for start, end in spans if start < end]) == "".join(kept)


@PROPERTY
@given(st.lists(st.tuples(st.integers(0, 30), st.integers(1, 9)), max_size=8))
def test_a_union_covers_the_same_places_in_ranges_that_do_not_touch(pairs):
    ranges = [[start, start + length] for start, length in pairs]
    joined = union(ranges)
    assert {n for a, b in joined for n in range(a, b)} == {
        n for a, b in ranges for n in range(a, b)
    }
    assert all(one[1] < other[0] for one, other in itertools.pairwise(joined))
