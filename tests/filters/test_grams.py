"""Repeated n-grams of words have as many characters as datatrove counts."""

import random

import pytest
from datatrove.pipeline.filters.gopher_repetition_filter import find_all_duplicate

from llmhpc.filters.blocks.grams import Grams


@pytest.mark.parametrize("n", [1, 2, 5, 10])
def test_duplicates_are_those_of_datatrove(n):
    draw = random.Random(n)
    for count in [0, 1, n, n + 1, *range(20, 400, 20)]:
        words = [f"{draw.randrange(1 + count // 3):03}" for _ in range(count)]
        for _ in range(draw.randrange(4) if count > n else 0):
            at, to = draw.randrange(count), draw.randrange(count)
            words[to:to] = words[at : at + 3 * n]
        assert Grams(words).duplicate(n) == find_all_duplicate(words, n)
