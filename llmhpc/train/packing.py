"""Sequences of whole documents: what is longer than a sequence is cut, then pieces are packed best-fit decreasing.

Ding et al., Fewer Truncations Improve Language Modeling (arXiv:2404.10830). A sequence that its pieces do not fill ends
with padding.
"""

from bisect import bisect_left, insort
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from llmhpc.tokens.reader import TokenFiles

# documents of a block, which is packed by itself: what is held of one is 2 * 48 bytes for each of its pieces, which
# are at most BLOCK_DOCUMENTS + BLOCK_TOKENS / sequence_length
BLOCK_DOCUMENTS = 1 << 17
BLOCK_TOKENS = 1 << 28


def best_fit(counts: np.ndarray) -> tuple[np.ndarray, int]:
    """Packs pieces into sequences of ``len(counts) - 1``; ``counts[n]`` pieces have n tokens.

    Returns for each piece, the longest first, the number of its sequence, and how many sequences there are. Each
    piece goes where it leaves the least room. Takes the pieces of one length together: time grows with the number
    of lengths, and not with that of pieces squared.
    """
    capacity, opened = len(counts) - 1, 0
    bins_of: dict[int, list[np.ndarray]] = {}  # room -> the sequences that have it
    rooms: list[int] = []  # the keys, rising
    placed: list[np.ndarray] = [np.empty(0, dtype=np.int64)]

    def put(room: int, bins: np.ndarray) -> None:
        if room and len(bins):
            if room not in bins_of:
                insort(rooms, room)
            bins_of.setdefault(room, []).append(bins)

    for length in np.flatnonzero(counts)[::-1].tolist():
        left = int(counts[length])
        while left:
            at = bisect_left(rooms, length)
            if at < len(rooms):
                room = rooms.pop(at)
                bins = np.concatenate(bins_of.pop(room))
            else:
                room, more = capacity, -(-left // (capacity // length))
                bins, opened = np.arange(opened, opened + more), opened + more
            each = room // length  # a sequence is the best fit until no further piece fits
            full = min(len(bins), left // each)
            placed.append(np.repeat(bins[:full], each))
            put(room - each * length, bins[:full])
            left -= full * each
            if full < len(bins) and left:
                placed.append(np.repeat(bins[full], left))
                put(room - left * length, bins[full : full + 1])
                full, left = full + 1, 0
            put(room, bins[full:])
    return np.concatenate(placed), opened


class Block(NamedTuple):
    """Packed documents: of each piece, sequence by sequence, where it lies in the split's tokens."""

    starts: np.ndarray  # int64, (pieces,)
    lengths: np.ndarray  # int64, (pieces,)
    goes_on: np.ndarray  # bool, (pieces,): the document was cut behind this piece
    offsets: np.ndarray  # int64, (sequences + 1,): where the pieces of each sequence begin


class Part(NamedTuple):
    """The documents of a block, of which nothing is read before it is wanted."""

    begin: int  # where they begin in the split's tokens
    ends: np.ndarray  # where each ends in its file, memory-mapped
    file: int  # where that begins

    def read(self) -> tuple[np.ndarray, np.ndarray]:
        """int64, where each document ends in the split's tokens, and how long it is."""
        ends: np.ndarray = self.ends.astype(np.int64) + self.file
        return ends, np.diff(ends, prepend=self.begin)


class Sequences:
    """The sequences of one pass over a split, in blocks of documents that are packed as they are wanted.

    Rows are (length + 1,) tokens and (length,) weights of their labels: 0 for padding, and where a document ends
    with the sequence.
    """

    def __init__(self, tokens: TokenFiles, length: int) -> None:
        self.tokens, self.length = tokens, length
        self._parts: list[Part] = []
        start = 0
        for row, ends in tokens.files():
            first = 0
            while first < len(ends):
                begin = int(ends[first - 1]) if first else 0
                limit = int(np.searchsorted(ends, begin + BLOCK_TOKENS, side="right"))
                stop = min(first + BLOCK_DOCUMENTS, max(first + 1, limit))
                self._parts.append(Part(start + begin, ends[first:stop], start))
                first = stop
            start += len(row)
        sizes = [best_fit(self._histogram(part))[1] for part in self._parts]
        self.firsts = np.cumsum([0, *sizes])  # number of the first sequence of each block
        self.block = lru_cache(maxsize=2)(self._block)
        self.turns = lru_cache(maxsize=2)(self._turns)
        self.order = lru_cache(maxsize=2)(_order)

    def __len__(self) -> int:
        return int(self.firsts[-1])

    def drawn(self, seed: int, epoch: int, index: int) -> int:
        """The sequence that is read at ``index`` of an epoch: blocks in a drawn order, and within each its own."""
        order, ends = self.turns(seed, epoch)
        place = int(np.searchsorted(ends, index, side="right"))
        block = int(order[place])
        size = int(self.firsts[block + 1] - self.firsts[block])
        within = self.order(size, seed, epoch, block)[index - int(ends[place]) + size]
        return int(self.firsts[block] + within)

    def index_in(self, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
        """At which index of an epoch each of some sequences of one block (rising numbers) is read."""
        block = int(np.searchsorted(self.firsts, numbers[0], side="right")) - 1
        order, ends = self.turns(seed, epoch)
        size = int(self.firsts[block + 1] - self.firsts[block])
        within = self.order(size, seed, epoch, block)
        found = np.flatnonzero(np.isin(within + self.firsts[block], numbers))
        index = np.empty(len(numbers), dtype=np.int64)
        index[np.searchsorted(numbers, within[found] + self.firsts[block])] = found
        first: np.ndarray = ends[order == block] - size
        return index + first

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 (length + 1,) and float32 (length,)."""
        tokens = np.full(self.length + 1, self.tokens.eos_id, dtype=np.int64)
        at = 0
        for start, length, goes_on in self._pieces(number):
            tokens[at : at + length + goes_on] = self.tokens.window(start, length + goes_on)
            at += length
        weights = np.zeros(self.length, dtype=np.float32)
        weights[: self.labels(number)] = 1.0
        return tokens, weights

    def labels(self, number: int) -> int:
        """How many labels of a sequence count."""
        pieces = self._pieces(number)
        return sum(length for _, length, _ in pieces) - (not pieces[-1][2])

    def of_tokens(self, start: int, stop: int) -> np.ndarray:
        """The sequences that hold tokens ``start`` to ``stop``, which are of one block."""
        number = int(np.searchsorted([part.begin for part in self._parts], start, side="right")) - 1
        block = self.block(number)
        found = np.flatnonzero((block.starts < stop) & (block.starts + block.lengths > start))
        inside = np.searchsorted(block.offsets, found, side="right") - 1
        return np.unique(inside) + self.firsts[number]

    def read_in(self, seed: int, epoch: int, index: int) -> np.ndarray:
        """bool (sequences,): which are read before ``index`` of an epoch."""
        read = np.zeros(len(self), dtype=bool)
        order, ends = self.turns(seed, epoch)
        for block, end in zip(order.tolist(), ends.tolist(), strict=True):
            size = int(self.firsts[block + 1] - self.firsts[block])
            if end - size < index:
                within = self.order(size, seed, epoch, block)[: index - end + size]
                read[self.firsts[block] + within] = True
        return read

    def coverage(self, marked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """int64 (documents,) twice, block by block: how many of the sequences that hold some of a document are
        marked, and how many do."""
        for number, part in enumerate(self._parts):
            ends, _ = part.read()
            block = self.block(number)
            document = np.searchsorted(ends, block.starts, side="right")
            sequence = np.repeat(np.arange(len(block.offsets) - 1), np.diff(block.offsets))
            held = np.bincount(document, minlength=len(ends))
            chosen = document[marked[self.firsts[number] + sequence]]
            yield np.bincount(chosen, minlength=len(ends)), held

    def _turns(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The order of the blocks in an epoch, and at which index each of them ends."""
        order = _order(len(self._parts), seed, epoch)
        return order, np.cumsum(np.diff(self.firsts)[order])

    def _pieces(self, number: int) -> list[tuple[int, int, bool]]:
        at = int(np.searchsorted(self.firsts, number, side="right")) - 1
        block, inside = self.block(at), number - int(self.firsts[at])
        part = slice(*block.offsets[inside : inside + 2])
        columns = block.starts[part], block.lengths[part], block.goes_on[part]
        return list(zip(*(column.tolist() for column in columns), strict=True))

    def _histogram(self, part: Part) -> np.ndarray:
        """Pieces by their length."""
        _, lengths = part.read()
        counts = np.bincount(lengths % self.length, minlength=self.length + 1)
        counts[0], counts[self.length] = 0, (lengths // self.length).sum()
        return counts

    def _block(self, number: int) -> Block:
        ends, lengths = self._parts[number].read()
        cuts = -(-lengths // self.length)  # pieces of each document
        nth = np.arange(cuts.sum()) - np.repeat(np.cumsum(cuts) - cuts, cuts)
        starts = np.repeat(ends - lengths, cuts) + nth * self.length
        sizes = np.minimum(self.length, np.repeat(ends, cuts) - starts)
        longest_first = np.argsort(-sizes, kind="stable")
        bins, count = best_fit(np.bincount(sizes, minlength=self.length + 1))
        by_bin = longest_first[np.argsort(bins, kind="stable")]
        return Block(
            starts=starts[by_bin],
            lengths=sizes[by_bin],
            goes_on=(nth + 1 < np.repeat(cuts, cuts))[by_bin],
            offsets=np.concatenate([[0], np.cumsum(np.bincount(bins, minlength=count))]),
        )


def _order(count: int, *key: int) -> np.ndarray:
    return np.random.default_rng(key).permutation(count)
