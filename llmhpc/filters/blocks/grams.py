"""The n-grams of a text's words as numbers: how much of it the most frequent one is, and those seen before.

The same figures as datatrove counts on strings, in a fraction of the time; but for n-grams of other words that are the
same when they are written without blanks.
"""

from collections import defaultdict
from itertools import count

import numpy as np

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # odd: hashes of n-grams are polynomials modulo 2^64


class Grams:
    """Counts of characters in n-grams, without the blanks between words where datatrove leaves them out."""

    def __init__(self, words: list[str]) -> None:
        numbers: dict[str, int] = defaultdict(count(1).__next__)
        self._ids = np.fromiter(map(numbers.__getitem__, words), np.uint64, len(words))
        self._sizes = np.fromiter(map(len, words), np.int64, len(words))
        self._stops = np.concatenate([[0], np.cumsum(self._sizes)])

    def _keys(self, n: int) -> np.ndarray:
        """A hash of each n-gram, shape (words - n + 1,)."""
        many = max(0, len(self._ids) - n + 1)
        keys = self._ids[:many]
        for at in range(1, n):
            keys = keys * FACTOR + self._ids[at : at + many]
        return keys

    def _characters(self, n: int) -> np.ndarray:
        return self._stops[n:] - self._stops[:-n]

    def top(self, n: int, enough: float) -> int:
        """Characters, blanks included, of all places of the most frequent n-gram; 0 if not more than ``enough``."""
        keys = self._keys(n)
        if not len(keys):
            return 0
        characters, ordered = self._characters(n) + n - 1, np.sort(keys)
        starts = np.flatnonzero(np.concatenate([[True], ordered[1:] != ordered[:-1]]))
        most = np.diff(starts, append=len(ordered))
        if most.max() * characters.max() <= enough:
            return 0
        frequent = np.isin(keys, ordered[starts[most == most.max()]])
        return int(
            most.max() * characters[frequent.argmax()]
        )  # of several the first, as Counter has it

    def repeated(self, n: int) -> int:
        """Characters of words in any n-gram seen before: ``duplicate`` of n or more words is no larger."""
        keys = self._keys(n)
        order = np.argsort(keys, kind="stable")
        again = order[1:][keys[order[1:]] == keys[order[:-1]]]
        covered = np.zeros(len(self._ids), bool)
        for at in range(n):
            covered[again + at] = True
        return int(self._sizes[covered].sum())

    def duplicate(self, n: int) -> int:
        """Characters of n-grams seen before, none of them overlapping, in the order of the text."""
        keys = self._keys(n)
        places = np.flatnonzero(_is_not_alone(keys))  # others are neither seen before nor again
        characters = self._characters(n)[places].tolist()
        seen, total, free = set(), 0, 0
        for at, key, size in zip(places.tolist(), keys[places].tolist(), characters, strict=True):
            if at < free:
                continue
            if key in seen:
                total += size
                free = at + n
            else:
                seen.add(key)
        return total


def _is_not_alone(keys: np.ndarray) -> np.ndarray:
    """Whether each key stands there more than once."""
    order = np.argsort(keys, kind="stable")
    same = keys[order[1:]] == keys[order[:-1]]
    found = np.zeros(len(keys), bool)
    found[order[1:][same]] = found[order[:-1][same]] = True
    return found
