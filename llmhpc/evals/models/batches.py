"""What is to be scored, cut into batches in which all that texts have in common is computed once."""

import hashlib
import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np

PREFIX_LEAST = (
    16  # tokens: a shorter common beginning of many texts is not worth a group of its own
)
PADDING = 16  # one part in 16 of a batch may be padding; the next batch then has shorter rows
KEYS = 8  # a batch attends to at most this many keys for each of its positions that are allowed

Tokens = tuple[int, ...]


class Pair(NamedTuple):
    """Token ids: what stands before, and what is scored."""

    context: Tokens
    continuation: Tokens

    @property
    def inputs(self) -> Tokens:
        """What a model reads to predict the continuation: all but the last token."""
        return (self.context + self.continuation)[:-1]


class Batch(NamedTuple):
    """What one forward computes: behind one prefix several rows, each a tree of pairs.

    Of a row the tokens that its pairs begin with in common, after the prefix, are there once. The pairs of a
    row stand in the order of their tokens.
    """

    prefix: Tokens
    rows: tuple[tuple[Pair, ...], ...]
    width: int  # positions of the longest row

    @property
    def pairs(self) -> list[Pair]:
        """All pairs, each once, in the order in which they are scored."""
        return [pair for row in self.rows for pair in row]

    @property
    def positions(self) -> int:
        """Of all rows together, padding included."""
        return self.width * len(self.rows)

    @property
    def hash(self) -> str:
        """Of all that is computed: 16 hex digits."""
        return hashlib.sha256(json.dumps(self).encode()).hexdigest()[:16]


class Tree(NamedTuple):
    """A row as a model reads it, a column for each token.

    Columns are in the order of a walk from the root, children after their parents: so column i comes from
    column j, and sees it, where j <= i < ends[j].
    """

    tokens: list[int]
    places: list[int]  # position in its text
    ends: list[int]  # the column after the last one that comes from it
    predicting: list[list[int]]  # for each pair the columns that predict its continuation


def tree(row: Sequence[Pair], prefix: int) -> Tree:
    """The tree of a row's pairs, without the ``prefix`` tokens that they begin with."""
    result = Tree([], [], [], [])
    tokens, places, ends, predicting = result
    path: list[int] = []  # the columns of the last pair
    last: Tokens = ()
    for pair in row:
        inputs = pair.inputs[prefix:]
        shared = _in_common(last, inputs)
        for column in path[shared:]:
            ends[column] = len(tokens)
        path[shared:] = range(len(tokens), len(tokens) + len(inputs) - shared)
        tokens += inputs[shared:]
        places += range(prefix + shared, prefix + len(inputs))
        ends += [0] * (len(inputs) - shared)
        predicting.append(path[len(pair.context) - 1 - prefix :])
        last = inputs
    for column in path:
        ends[column] = len(tokens)
    return result


class Planner:
    """Cuts pairs into batches: the same pairs into the same batches, whatever their order.

    Args:
        pairs: distinct, each with a context of at least one token and a continuation.
        batch_tokens: positions of one batch, padding included; a text that is longer has one for itself.
        hidden_size: of the model; it tells when attention costs more than what is shared saves.
        branching: the model keeps to a mask and positions from outside, so that texts can part.
    """

    def __init__(
        self, pairs: Iterable[Pair], batch_tokens: int, hidden_size: int, branching: bool
    ) -> None:
        both = sorted((pair.inputs, pair) for pair in pairs)
        self.inputs = [inputs for inputs, _ in both]
        self.pairs = [pair for _, pair in both]
        self.batch_tokens = batch_tokens
        self.hidden_size = hidden_size
        self.branching = branching
        neighbours = zip([(), *self.inputs], self.inputs, strict=False)
        self.shared = np.array([_in_common(*two) for two in neighbours])  # with the text before
        self.lengths = np.array([len(inputs) for inputs in self.inputs])
        self.contexts = np.array([len(pair.context) for pair in self.pairs])

    @cached_property
    def batches(self) -> list[Batch]:
        """By prefix, and then by falling width."""
        rows: dict[Tokens, list[tuple[int, tuple[Pair, ...]]]] = {}
        for prefix, start, end in self._groups():
            rows.setdefault(prefix, []).extend(self._rows(start, end, len(prefix)))
        return [batch for prefix in sorted(rows) for batch in self._cut(prefix, rows[prefix])]

    def _groups(self) -> Iterator[tuple[Tokens, int, int]]:
        """A prefix, and the first and the end of the texts that begin with it; each text is in one of them.

        Texts are the leaves of a tree, whose branches are looked at from the root: those with less than a
        batch stay with the prefix that is above them, those with more have a longer one if they can.
        """
        branches: list[tuple[Tokens, int, int]] = [((), 0, len(self.pairs))] if self.pairs else []
        while branches:
            prefix, start, end = branches.pop()
            inner = self.shared[start + 1 : end]
            common = int(min(self.lengths[start], inner.min(initial=self.lengths[start])))
            own = self.lengths[start] + int((self.lengths[start + 1 : end] - inner).sum())
            if len(inner) == 0 or own - common < self.batch_tokens:
                yield prefix, start, end
                continue
            # what predicts a token that is scored has to be in a row
            longest = min(common, int(self.contexts[start:end].min()) - 1)
            if self.branching and longest >= len(prefix) + PREFIX_LEAST:
                prefix = self.inputs[start][:longest]
            cuts = [start, *(start + 1 + np.flatnonzero(inner == common)).tolist(), end]
            branches += [(prefix, *ends) for ends in reversed([*itertools.pairwise(cuts)])]

    def _rows(self, start: int, end: int, prefix: int) -> Iterator[tuple[int, tuple[Pair, ...]]]:
        """Positions and pairs of each row. A pair joins the one before it if that makes less work."""
        size, first = int(self.lengths[start]) - prefix, start
        for number in range(start + 1, end):
            alone = int(self.lengths[number]) - prefix
            shared = int(self.shared[number]) - prefix
            if self._joins(number, size, alone, shared, prefix):
                size += alone - shared
            else:
                yield size, tuple(self.pairs[first:number])
                size, first = alone, number
        yield size, tuple(self.pairs[first:end])

    def _joins(self, number: int, size: int, alone: int, shared: int, prefix: int) -> bool:
        together = size + alone - shared
        if not self.branching:  # only what goes on where the text before it ends
            return shared + prefix == self.lengths[number - 1]
        apart = self._work(size, prefix) + self._work(alone, prefix)
        return together <= self.batch_tokens and self._work(together, prefix) < apart

    def _work(self, size: int, prefix: int) -> float:
        """Of a row, in units of what one position costs without attention.

        A layer multiplies about 12 * D**2 numbers for each position, and 2 * D for each key that it has.
        """
        return size * (1 + (size + prefix) / (6 * self.hidden_size))

    def _cut(self, prefix: Tokens, rows: list[tuple[int, tuple[Pair, ...]]]) -> Iterator[Batch]:
        """Rows of about one size together, so that little is padding."""
        rows = sorted(rows, key=lambda row: (-row[0], row[1]))
        start = 0
        while start < len(rows):
            width = rows[start][0]
            keys = KEYS * self.batch_tokens // (width + len(prefix))
            count = max(1, min(self.batch_tokens // width, keys))
            padding = itertools.accumulate(width - size for size, _ in rows[start : start + count])
            count = sum(padded <= self.batch_tokens / PADDING for padded in padding)
            yield Batch(prefix, tuple(pairs for _, pairs in rows[start : start + count]), width)
            start += count


def _in_common(one: Tokens, other: Tokens) -> int:
    """How many tokens both begin with."""
    for number, (mine, yours) in enumerate(zip(one, other, strict=False)):
        if mine != yours:
            return number
    return min(len(one), len(other))
