"""The labels of a pruned fastText model, such as lid.176.ftz, in a third of fastText's time.

A text's vector is the mean of the rows of its words and of their n-grams of characters (Bojanowski et al., arXiv 1607.04606;
Joulin et al., arXiv 1607.01759 and 1612.03651). Of a pruned model nine in ten n-grams have no row, and fastText looks for each in
a hash table; here those of thousands of words are hashed and found at once. The probabilities are its own but for the rounding of sums.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import numpy as np
from fasttext.FastText import _FastText

from llmhpc.filters.models.pruned_file import Header, read_header

END = "</s>"  # fastText reads it behind each line, and stops at one
APART = (END, "__label__", "\n")  # it does something else with these
BLANKS = "\t\v\f\r\0"  # and " ": no others to it
SHORT = 1500  # characters: fastText takes no longer
AT_ONCE = 4096  # words: bounds memory
MOST_LABELS = 1024  # of a tree: its paths are a matrix
MOST_ROWS = 1 << 18
OFFSET, PRIME = np.uint32(2166136261), np.uint32(16777619)  # FNV-1a of 32 bits
HINT = np.uint32((1 << 18) - 1)  # bits of a hash in a table that the cache of a core holds
WIDE, OCTETS = 0x80, 4  # UTF-8: the first character of two octets, the most octets of one
UNJOINED = 1 << 50  # more than any label's count
LARGEST = 700.0  # that exp can take
LEAST = 1e-5  # fastText adds it to what it takes the logarithm of


def load(path: Path) -> "_FastText | Pruned":
    """The model of a file, by the faster way if that can do it."""
    model, header = _FastText(str(path)), read_header(path)
    return Pruned(model, header) if header and _can_do(model, header) else model


def _can_do(model: _FastText, header: Header) -> bool:
    arguments, labels = model.f.getArgs(), len(header.label_counts)
    loss = arguments.loss.name
    return (
        arguments.model.name == "supervised"
        and (loss == "softmax" or (loss == "hs" and labels <= MOST_LABELS))
        and not arguments.qout
        and header.word_ngrams == 1
        and 1 < header.shortest <= header.longest  # of single characters some are left out
        and 0 < len(header.words) + len(header.kept) <= MOST_ROWS
    )


class Pruned:
    """Stands for the model where only ``predict`` is asked."""

    def __init__(self, model: _FastText, header: Header) -> None:
        self.model = model
        self._header = header
        rows = range(len(header.words) + len(header.kept))
        self._input = np.stack([model.get_input_vector(row) for row in rows])
        self._none = len(header.kept)
        self._row_of = np.full(header.buckets, self._none, np.min_scalar_type(self._none))
        self._row_of[list(header.kept)] = list(header.kept.values())
        self._hints = np.zeros(HINT + 1, bool)
        self._hints[np.array(list(header.kept), np.uint32) & HINT] = True
        self._output = np.asarray(model.f.getOutputMatrix())
        hierarchical = model.f.getArgs().loss.name == "hs"
        self._paths = huffman_paths(header.label_counts) if hierarchical else None
        self._labels = np.array(model.labels)

    def predict(self, text: str, k: int = 1) -> tuple[tuple[str, ...], np.ndarray]:
        """The ``k`` most probable labels (-1: all) and their probabilities."""
        if len(text) < SHORT or any(mark in text for mark in APART):
            return self.model.predict(text, k=k)
        total, number = np.zeros(self._input.shape[1]), 0
        for rows in self._rows(text):
            total += np.ones(len(rows), np.float32) @ self._input.take(rows, 0)
            number += len(rows)
        if not number:
            return self.model.predict(text, k=k)
        scores = self._scores(total / number)
        best = np.argsort(-scores, kind="stable")[: k if k > 0 else None]
        best = best[scores[best] >= LEAST]  # others fastText does not reach
        return tuple(self._labels[best].tolist()), scores[best]

    def _scores(self, mean: np.ndarray) -> np.ndarray:
        """The probability of each label, shape (labels,)."""
        values = (self._output @ mean).clip(-LARGEST, LARGEST)
        if self._paths is None:
            values = np.exp(values - values.max())
            return values / values.sum() + LEAST
        right = 1 / (1 + np.exp(-values[: self._paths.shape[1] // 2]))
        return np.exp(self._paths @ np.log(np.concatenate([1 - right, right]) + LEAST))

    def _rows(self, text: str) -> Iterator[np.ndarray]:
        """The rows of all words and n-grams of a text."""
        for blank in BLANKS:
            text = text.replace(blank, " ")
        words = [*filter(None, text.split(" "))]
        known = map(self._header.words.get, chain(words, [END]))
        yield np.array([row for row in known if row is not None], np.intp)
        buckets, first = np.uint32(self._header.buckets), np.intp(len(self._header.words))
        for at in range(0, len(words), AT_ONCE):
            for hashes, of_one_word in _ngrams(words[at : at + AT_ONCE], self._header):
                hashes -= hashes // buckets * buckets  # % takes three times as long
                places = np.flatnonzero(self._hints.take(hashes & HINT) & of_one_word)
                rows = self._row_of.take(hashes[places])
                yield rows.compress(rows != self._none) + first


def _ngrams(words: list[str], header: Header) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """For each n: the hashes of n characters in a row, from each one on, and whether they are of one word."""
    content = f"<{'> <'.join(words)}>".encode("utf-32-le")
    characters = np.frombuffer(content, np.uint32)
    is_of_word = characters != ord(" ")
    heads, tails = octets_of(characters)
    hashes, of_one_word = np.full(len(heads), OFFSET), is_of_word
    for n in range(1, min(header.longest, len(heads)) + 1):
        hashes = (hashes[: len(heads) - n + 1] ^ heads[n - 1 :]) * PRIME
        for where, octets in tails:
            first = np.searchsorted(where, n - 1)
            begins = where[first:] - (n - 1)
            hashes[begins] = (hashes[begins] ^ octets[first:]) * PRIME
        of_one_word = of_one_word[: len(hashes)] & is_of_word[n - 1 :]
        if n >= header.shortest:
            yield hashes.copy(), of_one_word


def octets_of(characters: np.ndarray) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray]]]:
    """The first octet of each character in UTF-8; then where there is a second one, and which; a third; a fourth.

    Octets have a sign, as in fastText.
    """
    wide = np.flatnonzero(characters >= WIDE)
    if not len(wide):
        return characters, []
    content = characters[wide].tobytes().decode("utf-32-le").encode()
    octets = np.frombuffer(content, np.int8).astype(np.uint32)
    starts = np.flatnonzero(np.frombuffer(content, np.uint8) & 0xC0 != 0x80)  # no further octets
    sizes = np.diff(starts, append=len(octets))
    heads = characters.copy()
    heads[wide] = octets[starts]
    places = ((at, np.flatnonzero(sizes > at)) for at in range(1, OCTETS))
    return heads, [(wide[some], octets[starts[some] + at]) for at, some in places]


def huffman_paths(counts: list[int]) -> np.ndarray:
    """Which turns lead to each label, shape (labels, 2 x inner nodes): left ones first, then right ones.

    fastText's tree: the two smallest are joined, of equal ones an inner node before a label.
    """
    labels, inner = len(counts), len(counts) - 1
    sizes = [*counts, *[UNJOINED] * inner]
    below = [[label] for label in range(labels)]  # labels under each node
    paths = np.zeros((labels, 2 * inner))
    leaf, node = labels - 1, labels  # what is to be joined next; labels stand in falling order
    for parent in range(inner):
        pair = []
        for _ in range(2):
            if leaf >= 0 and sizes[leaf] < sizes[node]:
                pair.append(leaf)
                leaf -= 1
            else:
                pair.append(node)
                node += 1
        left, right = pair
        sizes[labels + parent] = sizes[left] + sizes[right]
        paths[below[left], parent] = 1
        paths[below[right], inner + parent] = 1
        below.append(below[left] + below[right])
    return paths
