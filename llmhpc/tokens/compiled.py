"""The loops that turn bytes into token ids, compiled by numba when they first run.

``text`` is UTF-8 throughout and ``at``, ``stop`` are places in it. What a piece is says ``bpe.pattern``.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

from llmhpc.tokens.machine_code import kept

OTHER, LETTER, NUMBER, BLANK, LINE_END = range(5)  # kinds of characters
SPACE, APOSTROPHE, ZERO, NINE = (ord(character) for character in " '09")
ONE_LETTER = tuple(ord(letter) for letter in "stdm")
TWO_LETTERS = tuple(ord(a) << 8 | ord(b) for a, b in ("ll", "re", "ve"))
LONG_S = 0xC5BF  # U+017F in UTF-8, an "s" where case does not count
FAR = 30  # digits that "up_to_999" looks ahead
NO_PAIR = -1
ABSENT = -1  # a symbol that its left neighbour took in
HASH = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio (Knuth, vol. 3, 6.4)
SCRATCH = 256  # bytes of a piece; longer ones get room of their own


class Tables(NamedTuple):
    """What the loops know of a tokenizer."""

    kinds: np.ndarray  # uint8, by code point
    threes: bool  # numbers are cut as in "up_to_999"
    bytes: np.ndarray  # int64 id, by byte
    pairs: np.ndarray  # int64, (slots, 2): left id << 32 | right id, rank; slots are a power of two
    made: np.ndarray  # int64 id that a merge makes, by rank


class Memory(NamedTuple):
    """Ids of short pieces. A piece has one slot, and the last one that came to a slot has it."""

    keys: np.ndarray  # uint8, (slots, 2 + longest piece): bytes of the piece, ids, the piece
    ids: np.ndarray  # uint32, (slots, most ids)


@kept
def encode(
    text: np.ndarray, ends: np.ndarray, end_id: int, tables: Tables, memory: Memory, out: np.ndarray
) -> np.ndarray:
    """Write the ids of texts that stand in a row, each followed by ``end_id``.

    ``ends`` are the texts' ends, shape (texts,); ``out`` is uint32 with room for an id per byte and per text.
    Returns the end of each text in ``out``, shape (texts,).
    """
    until = np.empty(len(ends), np.int64)
    symbols, heap = _scratch(SCRATCH)
    at, filled = 0, 0
    for number in range(len(ends)):
        stop = ends[number]
        while at < stop:
            end = _piece(text, at, stop, tables)
            size = end - at
            slot = _slot(text, at, end, memory)
            if _holds(memory, slot, text, at, size):
                for n in range(memory.keys[slot, 1]):
                    out[filled + n] = memory.ids[slot, n]
                filled += memory.keys[slot, 1]
            else:
                if size > len(symbols):
                    symbols, heap = _scratch(size)
                count = _merge(text, at, size, tables, symbols, heap, out[filled:])
                _remember(memory, slot, text, at, size, out[filled : filled + count])
                filled += count
            at = end
        out[filled] = end_id
        filled += 1
        until[number] = filled
    return until


@kept
def pair_table(left: np.ndarray, right: np.ndarray, slots: int) -> np.ndarray:
    """Tables.pairs of merges from the first to the last; of a pair given twice the last counts."""
    pairs = np.full((slots, 2), NO_PAIR, np.int64)
    for rank in range(len(left)):
        key = left[rank] << 32 | right[rank]
        slot = _pair_slot(key, slots)
        while pairs[slot, 0] != NO_PAIR and pairs[slot, 0] != key:
            slot = (slot + 1) & (slots - 1)
        pairs[slot, 0], pairs[slot, 1] = key, rank
    return pairs


@njit
def _scratch(size: int) -> tuple[np.ndarray, np.ndarray]:
    """Room to merge a piece of ``size`` bytes: its symbols as id, previous, next; and a heap."""
    return np.empty((size, 3), np.int64), np.empty(2 * size, np.int64)


# Pieces


@njit
def _piece(text: np.ndarray, at: int, stop: int, tables: Tables) -> int:
    """The end of the piece that begins at ``at``; the rules are those of ``bpe.pattern``, in its order."""
    first = text[at]
    kind, behind = _character(text, at, tables.kinds)
    then = OTHER
    if behind < stop:
        then, _ = _character(text, behind, tables.kinds)
    if first == APOSTROPHE and then == LETTER:
        end = _contraction(text, behind, stop, tables.kinds)
        if end > 0:
            return end
    if kind == LETTER or (then == LETTER and (kind == OTHER or kind == BLANK)):
        return _run(text, behind, stop, LETTER, tables.kinds)
    if kind == NUMBER:
        if tables.threes and ZERO <= first <= NINE:
            return at + _threes(text, at, stop)
        return behind
    if kind == OTHER or (first == SPACE and then == OTHER and behind < stop):
        end = _run(text, behind, stop, OTHER, tables.kinds)
        return _run(text, end, stop, LINE_END, tables.kinds)
    return _blanks(text, at, stop, tables.kinds)


@njit
def _character(text: np.ndarray, at: int, kinds: np.ndarray) -> tuple[int, int]:
    """The kind of a character and the place behind it."""
    first = np.int64(text[at])
    if first < 0x80:
        return kinds[first], at + 1
    if first < 0xE0:
        return kinds[(first & 0x1F) << 6 | text[at + 1] & 0x3F], at + 2
    code = (text[at + 1] & 0x3F) << 6 | text[at + 2] & 0x3F
    if first < 0xF0:
        return kinds[(first & 0x0F) << 12 | code], at + 3
    return kinds[(first & 0x07) << 18 | code << 6 | text[at + 3] & 0x3F], at + 4


@njit
def _run(text: np.ndarray, at: int, stop: int, wanted: int, kinds: np.ndarray) -> int:
    """The end of the characters of one kind, of which there may be none."""
    while at < stop:
        kind, behind = _character(text, at, kinds)
        if kind != wanted:
            break
        at = behind
    return at


@njit
def _contraction(text: np.ndarray, at: int, stop: int, kinds: np.ndarray) -> int:
    """The end of s, t, d, m, ll, re or ve in any case, if no letter follows; else 0."""
    first = np.int64(text[at])
    both = first << 8 | (np.int64(text[at + 1]) if at + 1 < stop else 0)
    if both == LONG_S or both | 0x2020 in TWO_LETTERS:
        end = at + 2
    elif first | 0x20 in ONE_LETTER:
        end = at + 1
    else:
        return 0
    if end < stop and _character(text, end, kinds)[0] == LETTER:
        return 0
    return end


@njit
def _threes(text: np.ndarray, at: int, stop: int) -> int:
    """How many of the ASCII digits at ``at`` are one piece: what leaves threes, or three."""
    most = min(stop, at + FAR + 4)
    end = at
    while end < most and ZERO <= text[end] <= NINE:
        end += 1
    digits = end - at
    if digits > FAR + 3:
        return 3
    return (digits - 1) % 3 + 1


@njit
def _blanks(text: np.ndarray, at: int, stop: int, kinds: np.ndarray) -> int:
    """The end behind the last line end of a run of blanks; without one, before the last blank or at the text's end."""
    begun, last, line_end = at, at, 0
    while at < stop:
        kind, behind = _character(text, at, kinds)
        if kind == LINE_END:
            line_end = behind
        elif kind != BLANK:
            break
        last, at = at, behind
    if line_end > 0:
        return line_end
    return at if at == stop or last == begun else last


# Merges


@njit
def _merge(
    text: np.ndarray, at: int, size: int, tables: Tables,
    symbols: np.ndarray, heap: np.ndarray, out: np.ndarray,
) -> int:  # fmt: skip
    """Write the ids of a piece; returns how many.

    As the tokenizers library does it (models/bpe/word.rs): the lowest rank first, of these the leftmost; a pair
    that waits counts for whatever stands in its place by then, if that makes the same token.
    """
    for n in range(size):
        symbols[n, 0], symbols[n, 1], symbols[n, 2] = tables.bytes[text[at + n]], n - 1, n + 1
    waiting = 0
    for n in range(size - 1):
        waiting = _wait(symbols, n, n + 1, tables.pairs, heap, waiting)
    while waiting:
        rank, place = heap[0] >> 32, heap[0] & 0xFFFFFFFF
        waiting = _pop(heap, waiting)
        right = symbols[place, 2]
        if symbols[place, 0] == ABSENT or right == size:
            continue
        now = _rank(symbols[place, 0], symbols[right, 0], tables.pairs)
        if now == NO_PAIR or tables.made[now] != tables.made[rank]:
            continue
        left, behind = symbols[place, 1], symbols[right, 2]
        symbols[place, 0], symbols[place, 2], symbols[right, 0] = tables.made[rank], behind, ABSENT
        if left >= 0:
            waiting = _wait(symbols, left, place, tables.pairs, heap, waiting)
        if behind < size:
            symbols[behind, 1] = place
            waiting = _wait(symbols, place, behind, tables.pairs, heap, waiting)
    count, n = 0, 0
    while n < size:
        out[count] = symbols[n, 0]
        count, n = count + 1, symbols[n, 2]
    return count


@njit
def _pair_slot(key: int, slots: int) -> np.int64:
    mixed = np.uint64(key) * HASH
    return np.int64(mixed >> np.uint64(32)) & (slots - 1)


@njit
def _rank(left: int, right: int, pairs: np.ndarray) -> int:
    """The rank of a pair, or NO_PAIR."""
    key = left << 32 | right
    slot = _pair_slot(key, len(pairs))
    while pairs[slot, 0] != key:
        if pairs[slot, 0] == NO_PAIR:
            return NO_PAIR
        slot = (slot + 1) & (len(pairs) - 1)
    return pairs[slot, 1]


@njit
def _wait(
    symbols: np.ndarray, left: int, right: int, pairs: np.ndarray, heap: np.ndarray, waiting: int
) -> int:
    """Put a pair, if it is one, on the heap of rank << 32 | place; returns how many are on it."""
    rank = _rank(symbols[left, 0], symbols[right, 0], pairs)
    if rank == NO_PAIR:
        return waiting
    item, hole = rank << 32 | left, waiting
    while hole > 0 and heap[(hole - 1) >> 1] > item:
        heap[hole] = heap[(hole - 1) >> 1]
        hole = (hole - 1) >> 1
    heap[hole] = item
    return waiting + 1


@njit
def _pop(heap: np.ndarray, waiting: int) -> int:
    """Take the first off the heap; returns how many are left."""
    waiting -= 1
    item, hole = heap[waiting], 0
    while True:
        child = 2 * hole + 1
        if child >= waiting:
            break
        if child + 1 < waiting and heap[child + 1] < heap[child]:
            child += 1
        if heap[child] >= item:
            break
        heap[hole] = heap[child]
        hole = child
    heap[hole] = item
    return waiting


# Memory


@njit
def _slot(text: np.ndarray, at: int, end: int, memory: Memory) -> np.int64:
    mixed = HASH
    for n in range(at, end):
        mixed = (mixed ^ np.uint64(text[n])) * HASH
    return np.int64(mixed >> np.uint64(32)) & (len(memory.keys) - 1)


@njit
def _holds(memory: Memory, slot: np.int64, text: np.ndarray, at: int, size: int) -> bool:
    key = memory.keys[slot]
    if key[0] != size:
        return False
    for n in range(size):
        if key[2 + n] != text[at + n]:
            return False
    return True


@njit
def _remember(
    memory: Memory, slot: np.int64, text: np.ndarray, at: int, size: int, ids: np.ndarray
) -> None:
    if size > memory.keys.shape[1] - 2 or len(ids) > memory.ids.shape[1]:
        return
    key = memory.keys[slot]
    key[0], key[1] = size, len(ids)
    for n in range(size):
        key[2 + n] = text[at + n]
    for n in range(len(ids)):
        memory.ids[slot, n] = ids[n]
