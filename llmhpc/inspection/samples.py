"""Documents to read: of every pile those whose ids have the least hashes, a sample that merges exactly.

Whatever rank reads which shard in which order, the same documents are taken, and each document is as likely as any
other. A document has one hash in all steps: samples of a step and of the next one hold the same documents.
"""

from bisect import insort
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pyarrow as pa
import pyarrow.parquet
import xxhash

from llmhpc.inspection.piles import KEPT, Piece
from llmhpc.tokens.shards import hash64, line_writer, read_lines

PURPOSE = b"inspect"
VALUE_CHARACTERS = 1000  # of a text in the metadata
SAMPLE = pa.schema([
    ("step", pa.string()),
    ("fate", pa.string()),
    ("whole", pa.bool_()),  # False: what was taken out of a document that went on
    ("id", pa.string()),
    ("url", pa.string()),
    ("domain", pa.string()),
    ("reason", pa.string()),
    ("characters", pa.int64()),
    ("text", pa.string()),  # the beginning
    ("metadata", pa.string()),  # JSON
])  # fmt: skip
Key = tuple[int, int]  # hash of the id, hash of the line


class Limits(NamedTuple):
    """How much is shown."""

    samples: int  # of each step and fate
    per_domain: int
    characters: int  # of a text


class Lowest:
    """The ``most`` records with the least keys."""

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: list[tuple[Key, dict[str, Any]]] = []

    def wants(self, key: Key) -> bool:
        """True if a record with this key would stay for now."""
        return len(self.held) < self.most or (bool(self.held) and key < self.held[-1][0])

    def add(self, key: Key, record: dict[str, Any]) -> None:
        """Take a record that is wanted."""
        insort(self.held, (key, record), key=lambda entry: entry[0])
        del self.held[self.most :]


class Samples:
    """Samples of every step and fate, and of the documents that a step kept of each listed domain."""

    def __init__(self, domains: dict[str, list[str]], limits: Limits) -> None:
        self.domains, self.limits = domains, limits
        self._listed = {(step, name) for step, names in domains.items() for name in names}
        self._of_fates: dict[tuple[str, str, bool], Lowest] = {}
        self._of_domains: dict[tuple[str, str], Lowest] = {}

    def add(self, piece: Piece) -> None:
        """Look at a piece; pages are left out."""
        if piece.text is None:
            return
        key = hash64(piece.id, PURPOSE), xxhash.xxh3_64_intdigest(piece.line)
        wanting = [keeper for keeper in self._keepers(piece) if keeper.wants(key)]
        if wanting:
            record = _record(piece, self.limits.characters)
            for keeper in wanting:
                keeper.add(key, record)

    def _keepers(self, piece: Piece) -> Iterable[Lowest]:
        place = (piece.step, piece.fate, piece.whole)
        yield self._of_fates.setdefault(place, Lowest(self.limits.samples))
        if piece.fate == KEPT and (where := (piece.step, piece.domain)) in self._listed:
            yield self._of_domains.setdefault(where, Lowest(self.limits.per_domain))

    def write(self, path: Path) -> None:
        """Hand over to ``merge``."""
        with line_writer(path) as write:
            for table in (self._of_fates, self._of_domains):
                for group, keeper in table.items():
                    for key, record in keeper.held:
                        write(orjson.dumps([group, key, record]))

    def merge(self, path: Path) -> None:
        """Add what another rank wrote."""
        for line in read_lines([path]):
            group, key, record = orjson.loads(line)
            if len(group) == 3:
                keeper = self._of_fates.setdefault(tuple(group), Lowest(self.limits.samples))
            else:
                keeper = self._of_domains.setdefault(tuple(group), Lowest(self.limits.per_domain))
            if keeper.wants(tuple(key)):
                keeper.add(tuple(key), record)

    def save(self, out: Path) -> int:
        """Write samples.parquet and domains.parquet, the domains in the order of the list; returns the documents."""
        groups = [keeper for _, keeper in sorted(self._of_fates.items())]
        listed = [(step, name) for step, names in self.domains.items() for name in names]
        of_domains = [self._of_domains[key] for key in listed if key in self._of_domains]
        for name, keepers in (("samples", groups), ("domains", of_domains)):
            rows = [record for keeper in keepers for _, record in keeper.held]
            table = pa.Table.from_pylist(rows, schema=SAMPLE)
            pa.parquet.write_table(table, out / f"{name}.parquet", compression="zstd")
        return sum(len(keeper.held) for keeper in groups)


def _record(piece: Piece, characters: int) -> dict[str, Any]:
    text = piece.text or ""
    plain = {
        key: value[:VALUE_CHARACTERS] if isinstance(value, str) else value
        for key, value in piece.metadata.items()
        if not isinstance(value, dict | list)
    }
    return {
        "step": piece.step,
        "fate": piece.fate,
        "whole": piece.whole,
        "id": piece.id,
        "url": str(piece.metadata.get("url") or ""),
        "domain": piece.domain,
        "reason": piece.reason,
        "characters": len(text),
        "text": text[:characters],
        "metadata": orjson.dumps(plain).decode(),
    }
