"""Documents by number: read, registered with what decides between copies, looked up, written.

A document's number is its place: shard * 2^40 + line. It does not depend on which rank read it.
"""

import io
import math
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import orjson
import xxhash
import zstandard

from llmhpc.dedup import Keep, Method
from llmhpc.dedup.blocks import rows
from llmhpc.errors import ArtifactError

SHARDS = "*.jsonl.zst"
LINE_BITS = 40
LAST = (1 << 64) - 1
ENTRY = 5  # columns of the register: order, hash of the id, where the id begins and ends, units
ORDER = 2  # of these, what decides between copies: the least is the best
BUFFERED = 1 << 12  # entries of the register
LEVEL = 3  # zstd's own default
Progress = Callable[[float, float, str], None]  # done, total, unit


class Numbered(NamedTuple):
    """A document and its place."""

    number: int
    document: dict[str, Any]

    @property
    def metadata(self) -> dict[str, Any]:
        return self.document.get("metadata") or {}


def list_shards(folder: Path) -> list[Path]:
    """The shards in the order that numbers follow. Raises ArtifactError if there are none."""
    if not (found := sorted(folder.glob(SHARDS))):
        raise ArtifactError(f"{folder}: no {SHARDS} there, nothing to read")
    return found


def numbers_of(shard: int) -> tuple[int, int]:
    """The numbers of a shard's documents: from the first up to, not with, the second."""
    return shard << LINE_BITS, (shard + 1) << LINE_BITS


def split(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The shards and lines of document numbers."""
    bits = np.uint64(LINE_BITS)
    shards = numbers >> bits
    return shards, numbers - (shards << bits)


def place(number: int) -> tuple[int, int]:
    """The shard and line of one document number."""
    return number >> LINE_BITS, number & ((1 << LINE_BITS) - 1)


def halves(digest: int) -> tuple[int, int]:
    """A 128-bit hash as two numbers."""
    return digest >> 64, digest & LAST


def read(folder: Path, rank: int, ranks: int, progress: Progress) -> Iterator[Numbered]:
    """The documents of the shards ``rank::ranks`` in order. Raises ArtifactError at a line that is none."""
    shards = list_shards(folder)
    mine = range(rank, len(shards), ranks)
    total, before = sum(shards[shard].stat().st_size for shard in mine), 0
    for shard in mine:
        first = numbers_of(shard)[0]
        with shards[shard].open("rb") as file:
            stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
            for line, text in enumerate(io.BufferedReader(stream, 1 << 20)):
                yield Numbered(first + line, _parse(text, shards[shard], line))
                progress(before + file.tell(), total, "bytes")
        before += shards[shard].stat().st_size


def _parse(text: bytes, shard: Path, line: int) -> dict[str, Any]:
    try:
        document = orjson.loads(text)
        if isinstance(document["text"], str) and isinstance(document["id"], str):
            return document
    except (orjson.JSONDecodeError, KeyError, TypeError):
        pass
    raise ArtifactError(f"{shard}: line {line + 1} is no document, with a text and an id") from None


def order_of(cfg: Method, doc: Numbered) -> int:
    """What ``keep`` compares, as an unsigned number: the least is the best. Without the field: behind all others."""
    if cfg.keep is Keep.first:
        return doc.number
    if cfg.keep is Keep.longest:
        return LAST - len(doc.document["text"])
    value = doc.metadata.get(cfg.keep_field)
    if value is None:
        return LAST
    try:
        number = _seconds(str(value)) if cfg.keep is Keep.newest else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if math.isnan(number):
        what = "a date in ISO 8601" if cfg.keep is Keep.newest else "a number"
        raise ArtifactError(f"{doc.document['id']}: metadata.{cfg.keep_field}={value}, not {what}")
    return _descending(number)


def _seconds(date: str) -> float:
    moment = datetime.fromisoformat(date.strip().replace("Z", "+00:00"))
    return (moment if moment.tzinfo else moment.replace(tzinfo=timezone.utc)).timestamp()


def _descending(number: float) -> int:
    """A float's bits as an unsigned number that is the less the greater the float."""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    ascending = bits ^ LAST if bits >> 63 else bits | 1 << 63
    return LAST - ascending


def salt(cfg: Method, doc: Numbered) -> bytes:
    """Comes before everything that is hashed, so that only documents that agree in ``within`` meet."""
    return f"{doc.metadata.get(cfg.within)}\0".encode() if cfg.within else b""


class Register:
    """Writes what later phases want of each document: one file of rows and one of ids per shard."""

    def __init__(self, cfg: Method, folder: Path) -> None:
        self.cfg, self.folder = cfg, folder
        self._shard = -1
        self._rows: list[tuple[int, ...]] = []
        self._ids: list[bytes] = []
        self._end = 0  # of the shard's ids so far
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, doc: Numbered, units: int = 0) -> tuple[int, int]:
        """Enter a document that has ``units`` things to compare; returns what decides between copies."""
        if (shard := doc.number >> LINE_BITS) != self._shard:
            self.close()
            self._shard, self._end = shard, 0
        name = doc.document["id"].encode()
        rank = order_of(self.cfg, doc), xxhash.xxh3_64_intdigest(name)
        self._rows.append((*rank, self._end, self._end + len(name), units))
        self._ids.append(name)
        self._end += len(name)
        if len(self._rows) >= BUFFERED:
            self.close()
        return rank

    def close(self) -> None:
        """Write what is not yet written."""
        if self._rows:
            with (self.folder / f"{self._shard:06d}.rows").open("ab") as file:
                np.array(self._rows, rows.U64).tofile(file)
            with (self.folder / f"{self._shard:06d}.ids").open("ab") as file:
                file.write(b"".join(self._ids))
            self._rows, self._ids = [], []


class Registered:
    """Reads what a ``Register`` wrote; holds nothing of it in memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def entries(self, numbers: np.ndarray) -> np.ndarray:
        """The entries of documents, shape (n, ENTRY)."""
        found = np.empty((len(numbers), ENTRY), rows.U64)
        shards, lines = split(numbers)
        for shard in np.unique(shards):
            at = shards == shard
            found[at] = self._table(int(shard))[lines[at]]
        return found

    def units(self, shard: int, line: int) -> int:
        """How many things a document has to compare."""
        return int(self._table(shard)[line, ENTRY - 1])

    def id_of(self, number: int) -> str:
        """A document's id."""
        shard, line = place(number)
        start, end = (int(value) for value in self._table(shard)[line, 2:4])
        with (self.folder / f"{shard:06d}.ids").open("rb") as file:
            file.seek(start)
            return file.read(end - start).decode()

    def _table(self, shard: int) -> np.ndarray:
        path = self.folder / f"{shard:06d}.rows"
        return np.memmap(path, rows.U64, "r", shape=(rows.count(path, ENTRY), ENTRY))


class Writer(ExitStack):
    """JSON lines, compressed; the same lines give the same bytes."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        path.parent.mkdir(parents=True, exist_ok=True)
        file = self.enter_context(path.open("wb"))
        compressor = zstandard.ZstdCompressor(LEVEL)
        self._stream = self.enter_context(compressor.stream_writer(file))

    def write(self, record: dict[str, Any]) -> None:
        """Write one line."""
        self._stream.write(orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE))
