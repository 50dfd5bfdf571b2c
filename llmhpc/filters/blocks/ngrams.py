"""How many characters of a text lie in n-grams of words that are there before: datatrove's numbers, counted by arrays.

An n-gram is a stretch of the text that its words make when they are written in a row. Its hash is the difference of two
prefix sums of a polynomial in the characters, modulo 2^64 (Karp and Rabin, IBM J. Res. Dev. 31, 1987), so that all n-grams of one
size are compared at once.
"""

from functools import cached_property
from typing import NamedTuple

import numpy as np

BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64
INVERSE = pow(BASE, -1, 1 << 64)


class Row(NamedTuple):
    """Words written in a row, something between them: uint64 prefix sums, int64 starts and ends of the words in it."""

    sums: np.ndarray
    starts: np.ndarray
    ends: np.ndarray


class Ngrams:
    """The n-grams of ``words``."""

    def __init__(self, words: list[str]) -> None:
        self.words = words
        self._lengths = np.fromiter(map(len, words), np.int64, len(words))

    def most_frequent(self, n: int) -> int:
        """Characters in all occurrences of the most frequent n-gram, blanks in it included; 0 if there is none."""
        if len(self.words) < n:
            return 0
        keys, lengths = self._keys(self._spaced, n)
        _, first, counts = np.unique(keys, return_index=True, return_counts=True)
        top = counts.max()
        return int(lengths[first[counts == top].min()] * top)

    def repeated(self, n: int, enough: float = 0) -> int:
        """Characters of n-grams met before, those that overlap one already counted left out.

        If it can be told that they are ``enough`` or fewer, 0.
        """
        if len(self.words) < n:
            return 0
        keys, lengths = self._keys(self._joined, n)
        _, first, same = np.unique(keys, return_index=True, return_inverse=True)
        again = np.flatnonzero(first[same] < np.arange(len(keys)))
        covered = np.zeros(len(self.words) + 1, np.int64)
        np.add.at(covered, again, 1)
        np.add.at(covered, again + n, -1)
        if self._lengths[np.cumsum(covered[:-1]) > 0].sum() <= enough:
            return 0
        seen, at, repeated = set(), 0, 0
        numbers, sizes = same.tolist(), lengths.tolist()
        while at < len(numbers):
            if numbers[at] in seen:
                repeated += sizes[at]
                at += n
            else:
                seen.add(numbers[at])
                at += 1
        return repeated

    @cached_property
    def _spaced(self) -> Row:
        return self._row(" ")

    @cached_property
    def _joined(self) -> Row:
        return self._row("")

    def _row(self, between: str) -> Row:
        text = between.join(self.words).encode("utf-32-le", "surrogatepass")
        characters = np.frombuffer(text, "<u4").astype(np.uint64) + np.uint64(1)
        ends = np.cumsum(self._lengths + len(between)) - len(between)
        sums = np.concatenate(
            [[np.uint64(0)], np.cumsum(characters * powers(BASE, len(characters)))]
        )
        return Row(sums, ends - self._lengths, ends)

    def _keys(self, row: Row, n: int) -> tuple[np.ndarray, np.ndarray]:
        """(uint64 hash, int64 length in characters) of each n-gram."""
        starts, ends = row.starts[: len(row.starts) - n + 1], row.ends[n - 1 :]
        inverse = powers(INVERSE, len(row.sums))
        return (row.sums[ends] - row.sums[starts]) * inverse[starts], ends - starts


_powers: dict[int, np.ndarray] = {}


def powers(base: int, count: int) -> np.ndarray:
    """uint64, at least ``count`` powers of ``base`` modulo 2^64 from the zeroth on; the last ones are kept."""
    known = _powers.get(base, np.ones(1, np.uint64))
    while len(known) < count:  # twice as many each time
        known = np.concatenate([known, known * np.uint64(pow(base, len(known), 1 << 64))])
    _powers[base] = known
    return known[:count]
