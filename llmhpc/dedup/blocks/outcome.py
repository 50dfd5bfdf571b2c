"""The last phase of every method: documents that stay, documents that go and why, and the counts for the report."""

from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.dedup import Method
from llmhpc.dedup.blocks.shards import Numbered, Writer

REASON = "duplicate"  # the folder in removed/
SIZES = ("001-001", "002-002", "003-003", "004-007", "008-015", "016-063", "064-")  # in the report


class Outcome(ExitStack):
    """Writes documents/, removed/duplicate/ and clusters/ of one rank, each made when its first line comes."""

    def __init__(self, cfg: Method, out: Path, rank: int) -> None:
        super().__init__()
        self.cfg, self.out, self.rank = cfg, out, rank
        self.counts = {"documents_in": 0, "documents": 0, "duplicates": 0}
        self.sizes: dict[str, dict[str, float]] = {}
        self._writers: dict[str, Writer] = {}

    def keep(self, doc: Numbered, size: int) -> None:
        """A document stays; it is the best of ``size``."""
        self._count(doc, size, "documents", "kept")
        self._write("documents", self._with(doc, {"cluster_size": size}))

    def drop(self, doc: Numbered, size: int, similarity: float, kept: str | None) -> None:
        """A document goes, because it has that in common with the document ``kept`` (None: nobody knows whom)."""
        self._count(doc, size, "duplicates", "removed")
        self._remove(doc, size, similarity, kept, {})
        self.relate(doc, size, similarity, kept, whole=True)

    def cut(self, doc: Numbered, gone: list[str], size: int, similarity: float, kept: str) -> None:
        """Pieces were taken out of a document that stays: removed/duplicate/ has them, with ``whole`` false."""
        part = Numbered(doc.number, doc.document | {"text": "\n".join(gone)})
        found = {"whole": False, "bytes_removed": len("".join(gone).encode())}
        self._remove(part, size, similarity, kept, found)

    def relate(
        self, doc: Numbered, size: int, similarity: float, kept: str | None, *, whole: bool
    ) -> None:
        """A line of clusters/: what a document lost, all of itself or parts, and in favour of whom."""
        line = {"dropped": doc.document["id"], "kept": kept, "similarity": round(similarity, 4)}
        self._write("clusters", line | {"cluster_size": size, "whole": whole})

    def _remove(
        self, doc: Numbered, size: int, similarity: float, kept: str | None, found: dict[str, Any]
    ) -> None:
        why = f"similarity {similarity:.2f} to {kept or 'earlier documents'}"
        found = {"cluster_size": size, "duplicate_of": kept, "dropped_because": why, **found}
        self._write(f"removed/{REASON}", self._with(doc, found))

    def result(self) -> dict[str, Any]:
        """The counts, those of the classes of clusters included."""
        return {**self.counts, "by_cluster_size": dict(sorted(self.sizes.items()))}

    def _with(self, doc: Numbered, found: dict[str, Any]) -> dict[str, Any]:
        return {**doc.document, "metadata": {**doc.metadata, **found}}

    def _count(self, doc: Numbered, size: int, count: str, side: str) -> None:
        self.counts["documents_in"] += 1
        self.counts[count] += 1
        of_size = max(name for name in SIZES if int(name.partition("-")[0]) <= size)
        table = self.sizes.setdefault(of_size, {})
        table[side] = table.get(side, 0) + 1
        score = doc.metadata.get(self.cfg.score_field) if self.cfg.score_field else None
        if isinstance(score, int | float):
            table[f"{side}_scored"] = table.get(f"{side}_scored", 0) + 1
            table[f"{side}_score"] = table.get(f"{side}_score", 0.0) + score

    def _write(self, folder: str, line: dict[str, Any]) -> None:
        if folder not in self._writers:
            path = self.out / folder / f"{self.rank:05d}.jsonl.zst"
            self._writers[folder] = self.enter_context(Writer(path))
        self._writers[folder].write(line)


class Decided:
    """Rows about documents, sorted by number, walked along with the documents."""

    def __init__(self, parts: Iterator[np.ndarray]) -> None:
        self._rows = (row for part in parts for row in part.tolist())
        self._next = next(self._rows, None)

    def of(self, number: int) -> list[list[int]]:
        """The rows of a document; numbers must be asked for in order."""
        found = []
        while self._next is not None and self._next[0] <= number:
            if self._next[0] == number:
                found.append(self._next)
            self._next = next(self._rows, None)
        return found
