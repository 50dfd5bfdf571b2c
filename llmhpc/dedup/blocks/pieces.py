"""Texts cut into overlapping pieces that go to buckets by content; see ``dedup.substring`` for the idea."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import xxhash

from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.units import Units
from llmhpc.dedup.substring import Config
from llmhpc.task import Task

PIECE = 7  # columns: least hash, hash of what within says, order, hash of the id, document, first unit, bytes
LEAST, WITHIN, ORDER, ID, DOCUMENT, FIRST, BYTES = range(PIECE)
HELD_BYTES = 1 << 24
READ_ROWS = 1 << 14  # pieces at a time
BASE = 0x9E3779B97F4A7C15  # odd, so that it has an inverse modulo 2^64 (Knuth's golden ratio)
INVERSE = pow(BASE, -1, 1 << 64)
MIX = np.uint64(0xD6E8FEB86659FD93)  # of the finalizer by Mulvey (xmx), spreads the low bits


def write_pieces(
    cfg: Config, units: Units, documents: Path, out: Path, task: Task
) -> dict[str, Any]:
    """Deal the pieces of this rank's documents to buckets, and register the documents."""
    register, files = (
        shards.Register(cfg, out / "register"),
        PieceFiles(out, task.rank, cfg.buckets),
    )
    count = 0
    for doc in shards.read(documents, task.rank, task.ranks, task.progress):
        order, text = register.add(doc), units.of(doc.document["text"])
        within = xxhash.xxh3_64_intdigest(shards.salt(cfg, doc))
        for least, start, stop in cut(text, cfg.length):
            body = text[start:stop].tobytes()
            files.add(
                least % cfg.buckets, (least, within, *order, doc.number, start, len(body)), body
            )
            count += 1
    register.close()
    files.close()
    return {"pieces": count}


def cut(text: np.ndarray, length: int) -> Iterator[tuple[int, int, int]]:
    """Pieces (least hash, start, stop) of a text: in each, all windows of ``length`` units have that least hash."""
    if len(text) < length:
        return
    least = least_hashes(text, length)
    starts = np.flatnonzero(np.append(True, least[1:] != least[:-1]))
    stops = np.append(starts[1:], len(least)) + length - 1
    yield from zip(least[starts].tolist(), starts.tolist(), stops.tolist(), strict=True)


def least_hashes(text: np.ndarray, length: int) -> np.ndarray:
    """For each window of ``length`` units the least hash among its grams of half that length, shape (n - length + 1,)."""
    gram = length // 2
    least = gram_hashes(text, gram)
    reach, wanted = 1, length - gram + 1  # grams that each minimum covers, and should
    while 2 * reach <= wanted:
        least, reach = np.minimum(least[:-reach], least[reach:]), 2 * reach
    return np.minimum(least[: len(least) - wanted + reach], least[wanted - reach :])


def gram_hashes(text: np.ndarray, gram: int) -> np.ndarray:
    """A hash of each ``gram`` successive units that depends on them alone, shape (n - gram + 1,).

    sum of unit_j BASE^(j - i) modulo 2^64 for the gram at i, by prefix sums; then mixed, since its low bits are poor.
    It only decides where windows go: if two grams collide, windows meet that differ, and nothing else happens.
    """
    powers = np.full(len(text), BASE, np.uint64)
    powers[0] = 1
    np.cumprod(powers, out=powers)
    sums = np.concatenate(
        [np.zeros(1, np.uint64), np.cumsum((text.astype(np.uint64) + np.uint64(1)) * powers)]
    )
    back = np.full(len(text) - gram + 1, INVERSE, np.uint64)
    back[0] = 1
    hashes = (sums[gram:] - sums[:-gram]) * np.cumprod(back)
    for _ in range(2):
        hashes = (hashes ^ hashes >> np.uint64(32)) * MIX
    return hashes ^ hashes >> np.uint64(32)


class PieceFiles:
    """Writes pieces to a file of rows and one of units for each bucket."""

    def __init__(self, folder: Path, rank: int, buckets: int) -> None:
        self.folder, self.rank = folder, rank
        self._rows: list[list[tuple[int, ...]]] = [[] for _ in range(buckets)]
        self._units: list[list[bytes]] = [[] for _ in range(buckets)]
        self._bytes = 0

    def add(self, bucket: int, row: tuple[int, ...], body: bytes) -> None:
        """Take one piece."""
        self._rows[bucket].append(row)
        self._units[bucket].append(body)
        self._bytes += len(body) + 8 * PIECE
        if self._bytes >= HELD_BYTES:
            self.close()

    def close(self) -> None:
        """Write what is not yet written."""
        for bucket, held in enumerate(self._rows):
            if held:
                path = self.folder / "pieces" / f"{bucket:04d}" / f"{self.rank:05d}"
                path.parent.mkdir(parents=True, exist_ok=True)
                with path.with_suffix(".rows").open("ab") as file:
                    np.array(held, rows.U64).tofile(file)
                with path.with_suffix(".units").open("ab") as file:
                    file.writelines(self._units[bucket])
                self._rows[bucket], self._units[bucket] = [], []
        self._bytes = 0


def read_pieces(folder: Path) -> Iterator[tuple[np.ndarray, bytes]]:
    """The pieces of a bucket: some rows, and the bytes of all of them."""
    for path in sorted(folder.glob("*.rows")):
        with path.with_suffix(".units").open("rb") as file:
            total = rows.count(path, PIECE)
            for start in range(0, total, READ_ROWS):
                part = rows.read(path, PIECE, start, min(start + READ_ROWS, total))
                yield part, file.read(int(part[:, BYTES].sum()))
