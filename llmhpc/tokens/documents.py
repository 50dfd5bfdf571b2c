"""documents.parquet beside the token files of a split: a row for each document, in their order.

start, tokens   where the document lies in the row of the split's tokens, the eos behind it included
id, url, domain, mix   of the document; mix is its set in a mixture
bytes           of its text, UTF-8
shard, line     the file of documents/ that was tokenized and the line in it, from 0
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmhpc.errors import ArtifactError
from llmhpc.tokens.domains import domain_of

TABLE = "documents.parquet"
ROWS = 1 << 13  # of a row group, which is what is held in memory
BATCH_ROWS = 1 << 10  # as Python objects, which take several times as much
SCHEMA = pa.schema(
    [("start", pa.uint64()), ("tokens", pa.uint64()), ("bytes", pa.uint64())]
    + [(name, pa.string()) for name in ("id", "url", "domain", "mix", "shard")]
    + [("line", pa.uint64())]
)


class DocumentsWriter:
    """Writes one table; the same rows give the same bytes, in whatever pieces they come."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._file = pq.ParquetWriter(folder / TABLE, SCHEMA, compression="zstd")
        self._rows: list[dict[str, Any]] = []
        self._batches: list[pa.RecordBatch] = []
        self._held = 0  # rows in the two

    def add(self, row: dict[str, Any]) -> None:
        """Append one document."""
        self._rows.append(row)
        self._held += 1
        if len(self._rows) >= BATCH_ROWS:
            self._pack()
        if self._held >= ROWS:
            self._write(ROWS)

    def extend(self, batch: pa.RecordBatch, shift: int) -> None:
        """Append the rows of another table whose tokens begin ``shift`` further on here."""
        starts = pc.add(batch.column("start"), pa.scalar(shift, pa.uint64()))
        self._batches.append(batch.set_column(0, SCHEMA.field("start"), starts))
        self._held += batch.num_rows
        if self._held >= ROWS:
            self._write(ROWS)

    def close(self) -> None:
        """Write the rest and end the file."""
        if self._held:
            self._write(self._held)
        self._file.close()

    def _pack(self) -> None:
        if self._rows:
            self._batches.append(pa.RecordBatch.from_pylist(self._rows, SCHEMA))
            self._rows = []

    def _write(self, group: int) -> None:
        """Write whole row groups of ``group`` rows, and keep the rest."""
        self._pack()
        table = pa.Table.from_batches(self._batches, SCHEMA).combine_chunks()
        whole = len(table) // group * group
        self._file.write_table(table.slice(0, whole), row_group_size=group)
        self._batches = table.slice(whole).to_batches()
        self._held = len(table) - whole


def row_of(
    document: dict[str, Any], start: int, tokens: int, shard: str, line: int
) -> dict[str, Any]:
    """The row of a document."""
    metadata = document.get("metadata") or {}
    return {
        "start": start,
        "tokens": tokens,
        "bytes": len(document["text"].encode()),
        "id": document["id"],
        "url": str(metadata.get("url") or ""),
        "domain": domain_of(metadata),
        "mix": str(metadata.get("mix") or ""),
        "shard": shard,
        "line": line,
    }


def batches(folder: Path, columns: list[str] | None = None) -> Iterator[pa.RecordBatch]:
    """The table of a split's folder, a row group or less at a time."""
    yield from _open(folder).iter_batches(ROWS, columns=columns)


def at_token(folder: Path, position: int) -> tuple[int, dict[str, Any]]:
    """The number and row of the document that holds the token at ``position`` of the split.

    Row groups are passed over by their statistics. Raises IndexError if there is no such token.
    """
    file = _open(folder)
    column, first = SCHEMA.get_field_index("start"), 0
    groups = [file.metadata.row_group(i) for i in range(file.metadata.num_row_groups)]
    starts = [group.column(column).statistics.min for group in groups]
    number = int(np.searchsorted(starts, position, side="right")) - 1
    if number < 0:
        raise IndexError(position)
    first = sum(group.num_rows for group in groups[:number])
    table = file.read_row_group(number)
    at = int(np.searchsorted(table.column("start").to_numpy(), position, side="right")) - 1
    row = table.slice(at, 1).to_pylist()[0]
    if not 0 <= position < row["start"] + row["tokens"]:
        raise IndexError(position)
    return first + at, row


def rows_with(folder: Path, column: str, text: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """The numbers and rows of the documents with ``text`` somewhere in ``column``; the others are not read."""
    file, first = _open(folder), 0
    for group in range(file.metadata.num_row_groups):
        values = file.read_row_group(group, columns=[column]).column(0)
        found = np.flatnonzero(pc.match_substring(values, text).to_numpy())
        if len(found):
            rows = file.read_row_group(group).take(found).to_pylist()
            yield from zip((first + found).tolist(), rows, strict=True)
        first += len(values)


def _open(folder: Path) -> pq.ParquetFile:
    if not (folder / TABLE).is_file():
        raise ArtifactError(f"{folder / TABLE}: no such file; a sealed tokenize step has one")
    return pq.ParquetFile(folder / TABLE)
