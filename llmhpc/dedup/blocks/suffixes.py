"""Repeated windows of a bucket's pieces: by a suffix array, in parts that fit in memory."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from pydivsufsort import divsufsort, kasai

from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.dealt import MB
from llmhpc.dedup.blocks.pieces import (
    BYTES,
    DOCUMENT,
    FIRST,
    ID,
    LEAST,
    ORDER,
    WITHIN,
    PieceFiles,
    read_pieces,
)
from llmhpc.dedup.blocks.repeats import PART, WINDOW, joined, of_windows, write_parts
from llmhpc.dedup.blocks.rows import Sorter
from llmhpc.dedup.substring import Config
from llmhpc.task import Task

BYTES_PER_BYTE = (
    80  # of memory for each byte of text: suffixes, prefixes, and the windows that they group
)
SPARE = 2  # parts are made for this many times the text, since hashes do not deal it evenly


def of_bucket(cfg: Config, width: int, home: Path, out: Path, task: Task) -> dict[str, Any]:
    """Write the repeated parts of this task's bucket to ``out``/parts/{bucket}.rows."""
    folder, most = (
        home / "pieces" / f"{task.rank:04d}",
        cfg.memory_mb * MB * 3 // 4 // BYTES_PER_BYTE,
    )
    size = sum(path.stat().st_size for path in folder.glob("*.units"))
    parts = Sorter(PART, cfg.memory_mb * MB // 4, out / "sorting")
    by_hash = 0
    with tempfile.TemporaryDirectory(dir=out / "sorting") as name:
        smaller = (
            _split(folder, Path(name), cfg.buckets, -(-size // most) * SPARE)
            if size > most
            else [folder]
        )
        for done, part in enumerate(smaller, 1):
            if sum(path.stat().st_size for path in part.glob("*.units")) <= most:
                for found in _by_suffix_array(part, cfg.length, width):
                    parts.add(found)
            else:
                by_hash += 1
                parts.add_all(_by_hash(part, cfg, width, out / "sorting"))
            task.progress(done, len(smaller), "parts")
    return write_parts(parts, out, task.rank) | {
        "suffix_arrays": len(smaller) - by_hash,
        "by_hash": by_hash,
    }


def _split(folder: Path, into: Path, buckets: int, count: int) -> list[Path]:
    """The pieces of a bucket dealt once more by their least hash, which its number does not tell."""
    files = PieceFiles(into, 0, count)
    for part, body in read_pieces(folder):
        ends = np.cumsum(part[:, BYTES]).tolist()
        for row, end in zip(part.tolist(), ends, strict=True):
            files.add(row[LEAST] // buckets % count, tuple(row), body[end - row[BYTES] : end])
    files.close()
    return sorted((into / "pieces").iterdir())


def _by_suffix_array(folder: Path, length: int, width: int) -> Iterator[np.ndarray]:
    """The repeated parts among pieces that are taken into memory."""
    if not (read := list(read_pieces(folder))):
        return
    table = np.concatenate([part for part, _ in read])
    text = np.frombuffer(bytearray().join(body for _, body in read), np.uint8)
    ends = np.cumsum(table[:, BYTES].astype(np.int64))
    starts = ends - table[:, BYTES].astype(np.int64)
    suffixes = divsufsort(text)
    # suffixes are in order: all that share their first ``length`` units are neighbours
    alone = np.append(True, kasai(text, suffixes)[:-1] < length * width)
    group = np.cumsum(alone, dtype=np.int32)
    piece = np.searchsorted(ends, suffixes, "right").astype(np.int32)
    whole = (suffixes - starts[piece]) % width == 0
    whole &= suffixes + length * width <= ends[piece]
    whole &= np.bincount(group[whole], minlength=int(group[-1]) + 1)[group] > 1
    group, piece, place = group[whole], piece[whole], suffixes[whole]
    unit = table[piece, FIRST] + ((place - starts[piece]) // width).astype(rows.U64)
    keys = [table[:, column] for column in (FIRST, DOCUMENT, ID, ORDER)]
    rank = np.empty(len(table), np.int64)
    rank[np.lexsort(keys)] = np.arange(len(table))  # the best piece first
    order = np.lexsort([unit, rank[piece], table[piece, WITHIN], group])
    group, piece, unit = group[order], piece[order], unit[order]
    within = table[piece, WITHIN]
    new = np.ones(len(order), bool)
    new[1:] = (group[1:] != group[:-1]) | (within[1:] != within[:-1])
    number = np.cumsum(new) - 1
    firsts = np.flatnonzero(new)
    document = table[piece, DOCUMENT]
    fresh = np.append(True, document[1:] != document[:-1])[: len(new)] | new
    sizes = np.add.reduceat(fresh, firsts, dtype=rows.U64) if len(firsts) else np.empty(0, rows.U64)
    found = [document, unit, unit + np.uint64(length), document[firsts][number], sizes[number]]
    yield joined(np.stack(found, axis=1)[~new], length)


def _by_hash(folder: Path, cfg: Config, width: int, sorting: Path) -> Iterator[np.ndarray]:
    """The same for pieces that are too many, most of which are then copies: windows by 128-bit hash, sorted on disk."""
    memory, step = cfg.memory_mb * MB // 4, cfg.length * width
    windows = Sorter(WINDOW, memory, sorting)
    for part, body in read_pieces(folder):
        end = 0
        for row in part.tolist():
            start, end = end, end + row[BYTES]
            salt, place = row[WITHIN].to_bytes(8, "little"), (row[ORDER], row[ID], row[DOCUMENT])
            windows.add(
                np.array(
                    [
                        (
                            *shards.halves(xxhash.xxh3_128_intdigest(salt + body[at : at + step])),
                            *place,
                            row[FIRST] + (at - start) // width,
                        )
                        for at in range(start, end - step + 1, width)
                    ],
                    rows.U64,
                )
            )
    yield from of_windows(windows.sorted(), cfg.length, sorting)
