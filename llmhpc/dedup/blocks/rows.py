"""Rows of unsigned 64-bit numbers on disk, sorted and merged in a fixed amount of memory.

A file is its rows one after the other, little-endian, without a header. Rows are compared column by column.
Whatever the amount of memory, the sorted rows are the same.
"""

import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import repeat, tee
from pathlib import Path

import numpy as np

U64 = np.dtype("<u8")
SORTING = 4  # times its bytes that a block costs: itself, its order, the sorted copy, the next one
BLOCK_ROWS = 1 << 16  # of what is handed on, at most


@dataclass
class Run:
    """Rows ``start:stop`` of a sorted file, read in blocks; the file is open only while it is read."""

    path: Path
    columns: int
    block: int
    start: int = 0
    stop: int | None = None
    rows: np.ndarray = field(init=False)  # what was read and not yet taken

    def __post_init__(self) -> None:
        if self.stop is None:
            self.stop = count(self.path, self.columns)
        self.rows = np.empty((0, self.columns), U64)
        self.fill()

    @property
    def more(self) -> bool:
        """True if the file holds rows that come after those in hand."""
        return self.start < (self.stop or 0)

    def fill(self) -> None:
        """Have a block in hand, if there are rows left."""
        if not len(self.rows) and self.more:
            self.rows = read(
                self.path, self.columns, self.start, min(self.start + self.block, self.stop or 0)
            )
            self.start += len(self.rows)

    def take(self, bound: np.ndarray | None) -> np.ndarray:
        """The rows in hand up to and with ``bound``; None: all of them."""
        end = len(self.rows) if bound is None else _end(self.rows, bound)
        taken, self.rows = self.rows[:end], self.rows[end:]
        return taken


def count(path: Path, columns: int) -> int:
    """How many rows a file has."""
    return path.stat().st_size // (columns * U64.itemsize)


def read(path: Path, columns: int, start: int = 0, stop: int | None = None) -> np.ndarray:
    """Rows ``start:stop`` of a file, shape (n, columns)."""
    many = -1 if stop is None else (stop - start) * columns
    offset = start * columns * U64.itemsize
    return np.fromfile(path, U64, many, offset=offset).reshape(-1, columns)


def blocks(path: Path, columns: int) -> Iterator[np.ndarray]:
    """The rows of a file in order, some at a time."""
    for start in range(0, total := count(path, columns), BLOCK_ROWS):
        yield read(path, columns, start, min(start + BLOCK_ROWS, total))


def write(path: Path, parts: Iterable[np.ndarray]) -> None:
    """Write rows as they come; parent folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for rows in parts:
            np.ascontiguousarray(rows, U64).tofile(file)


def sort(rows: np.ndarray) -> np.ndarray:
    """The rows in order."""
    return rows[np.lexsort(rows.T[::-1])]


class Sorter:
    """Takes rows in any order and gives them back sorted; beyond ``memory`` bytes they go to files in ``folder``."""

    def __init__(self, columns: int, memory: int, folder: Path) -> None:
        self.columns, self.memory = columns, memory
        self._most = max(1, memory // (columns * U64.itemsize * SORTING))
        self._held: list[np.ndarray] = []
        self._rows = 0
        self._runs: list[Path] = []
        folder.mkdir(parents=True, exist_ok=True)
        self._spill = tempfile.TemporaryDirectory(dir=folder)

    def add(self, rows: np.ndarray) -> None:
        """Take rows of shape (n, columns)."""
        while len(rows):
            some, rows = rows[: self._most - self._rows], rows[self._most - self._rows :]
            self._held.append(some)
            self._rows += len(some)
            if self._rows >= self._most:
                self._flush()

    def add_all(self, parts: Iterable[np.ndarray]) -> "Sorter":
        """Take rows of several blocks."""
        for rows in parts:
            self.add(rows)
        return self

    def sorted(self) -> Iterator[np.ndarray]:
        """All rows in order, some at a time, once."""
        if self._runs:
            self._flush()
            yield from merged(self._runs, self.columns, self.memory)
        elif self._held:
            whole = sort(np.concatenate(self._held))
            self._held = []
            for start in range(0, len(whole), BLOCK_ROWS):
                yield whole[start : start + BLOCK_ROWS]
        self._spill.cleanup()

    def _flush(self) -> None:
        if self._held:
            self._runs.append(Path(self._spill.name) / f"{len(self._runs):06d}.rows")
            write(self._runs[-1], [sort(np.concatenate(self._held))])
            self._held, self._rows = [], 0


def merged(paths: Iterable[Path], columns: int, memory: int) -> Iterator[np.ndarray]:
    """The rows of sorted files in order, some at a time, in about ``memory`` bytes."""
    ranges = [(path, 0, count(path, columns)) for path in paths]
    return merged_ranges(ranges, columns, memory)


def merged_ranges(
    ranges: list[tuple[Path, int, int]], columns: int, memory: int
) -> Iterator[np.ndarray]:
    """The same for rows start:stop of each file."""
    block = memory // (max(1, len(ranges)) * columns * U64.itemsize * SORTING)
    block = min(BLOCK_ROWS, max(1, block))
    runs = [Run(path, columns, block, start, stop) for path, start, stop in ranges if start < stop]
    while runs:
        # rows after the least of the last rows in hand may still be preceded by one that was not read
        lasts = [run.rows[-1] for run in runs if run.more]
        bound = min(lasts, key=tuple) if lasts else None
        yield sort(np.concatenate([run.take(bound) for run in runs]))
        for run in runs:
            run.fill()
        runs = [run for run in runs if len(run.rows)]


def unique(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Sorted rows, each once."""
    for rows, _, new in with_heads(parts, None):
        yield rows[new]


def with_heads(
    parts: Iterable[np.ndarray], keys: int | None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sorted rows with the first row of each one's group, and whether it is that row itself.

    A group is all rows with the same first ``keys`` columns (None: all columns). It may be as large as it likes.
    """
    head: np.ndarray | None = None
    for rows in parts:
        if not len(rows):
            continue
        new = np.empty(len(rows), bool)
        new[0] = head is None or bool((rows[0, :keys] != head[:keys]).any())
        new[1:] = (rows[1:, :keys] != rows[:-1, :keys]).any(axis=1)
        before = rows[:1] if head is None else head[None]
        heads = np.concatenate([before, rows[new]])[np.cumsum(new)]
        head = heads[-1]
        yield rows, heads, new


def with_sizes(
    parts: Iterable[np.ndarray], columns: int, keys: int, folder: Path, counted: int | None = None
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Sorted rows with the first row of each one's group and the group's size.

    Rows that agree in their first ``counted`` columns count as one (None: each counts). The size is known at a group's end only: the rows are read twice, from files in ``folder``.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        kept, sizes = Path(name) / "kept.rows", Path(name) / "sizes.rows"
        write(kept, _noting_sizes(parts, keys, counted, sizes))
        group = -1  # number of the last group that was handed on
        for rows, heads, new in with_heads(blocks(kept, columns), keys):
            numbers = group + np.cumsum(new)
            first = int(numbers[0])
            known = read(sizes, 1, first, int(numbers[-1]) + 1)[:, 0]
            yield rows, heads, known[numbers - first]
            group = int(numbers[-1])


def _noting_sizes(
    parts: Iterable[np.ndarray], keys: int, counted: int | None, sizes: Path
) -> Iterator[np.ndarray]:
    """The rows as they are, while the size of each group goes to a file."""
    open_size = 0  # of the group that may go on
    flags: Iterator[np.ndarray | None] = repeat(None)
    if counted:  # both are read in step: tee holds one block
        parts, again = tee(parts)
        flags = (fresh for _, _, fresh in with_heads(again, counted))
    with sizes.open("wb") as file:
        for (rows, _, new), fresh in zip(with_heads(parts, keys), flags, strict=False):
            yield rows
            before = np.arange(len(rows) + 1)  # how many are counted ahead of each row
            if fresh is not None:
                np.cumsum(fresh, out=before[1:])
            ends = np.concatenate([[0], np.flatnonzero(new), [len(rows)]])
            found = np.diff(before[ends]).astype(U64)  # in the open group, then in the new
            found[0] += U64.type(open_size)
            open_size = int(found[-1])
            done = found[:-1]
            done[done > 0].tofile(file)
        if open_size:
            np.array([open_size], U64).tofile(file)


def _end(rows: np.ndarray, bound: np.ndarray) -> int:
    """How many of the sorted rows are not after ``bound``."""
    low, high = 0, len(rows)
    for column, value in enumerate(bound):
        part = rows[low:high, column]
        low, high = (
            low + int(np.searchsorted(part, value, "left")),
            low + int(np.searchsorted(part, value, "right")),
        )
        if low == high:
            break
    return high


def span(path: Path, columns: int, low: int, high: int) -> tuple[Path, int, int]:
    """The rows of a sorted file whose first column lies in low..high-1, as ``merged_ranges`` takes them."""
    if not (total := count(path, columns)):
        return path, 0, 0
    first = np.memmap(path, U64, "r", shape=(total, columns))[:, 0]
    at = [int(np.searchsorted(first, U64.type(value), "left")) for value in (low, high)]
    return path, at[0], at[1]
