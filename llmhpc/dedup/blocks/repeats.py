"""Parts of texts that are also elsewhere: found among windows of a fixed length, and cut out or marked.

A window is a place where ``length`` successive units (bytes, tokens, sentences) begin. Of all windows of the same
content the best stays: that of the document that ``keep`` prefers, and in it the first. The units of the others
are repeated, so every repeated span of ``length`` units or more is found whole.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.dedup import Method
from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.dealt import MB, files_of
from llmhpc.dedup.blocks.outcome import Decided, Outcome
from llmhpc.dedup.blocks.rows import Sorter
from llmhpc.dedup.blocks.shards import Numbered
from llmhpc.task import Task

WINDOW = 6  # columns: two halves of the content's hash, order, hash of the id, document, first unit
PART = 5  # columns: document, first unit, unit behind the last, document that keeps it, documents that have it
SAME_PART = [0, 3, 4]
ToCharacters = Callable[[int, int], tuple[int, int]]  # units start:end to characters


@dataclass(frozen=True, kw_only=True)
class Cut:
    """What happens to repeated parts."""

    mark: bool
    min_characters: int
    length: int  # of a window, in units


def of_bucket(cfg: Method, home: Path, out: Path, length: int, task: Task) -> dict[str, Any]:
    """Write the repeated parts among the windows of this task's bucket to ``out``/parts/{bucket}.rows."""
    windows = rows.merged(files_of(home, task.rank), WINDOW, cfg.memory_mb * MB // 2)
    parts = Sorter(PART, cfg.memory_mb * MB // 2, out / "sorting")
    parts.add_all(of_windows(windows, length, out / "sorting"))
    return write_parts(parts, out, task.rank)


def write_parts(parts: Sorter, out: Path, bucket: int) -> dict[str, Any]:
    """Write what a bucket's task found."""
    path = out / "parts" / f"{bucket:04d}.rows"
    rows.write(path, parts.sorted())
    (out / "sorting").rmdir()
    return {"parts": rows.count(path, PART)}


def of_windows(windows: Iterable[np.ndarray], length: int, folder: Path) -> Iterator[np.ndarray]:
    """The repeated parts among sorted windows."""
    for part, best, sizes in rows.with_sizes(windows, WINDOW, 2, folder, counted=5):
        worse = (part[:, 4:] != best[:, 4:]).any(axis=1)
        document, unit = part[worse, 4], part[worse, 5]
        found = [document, unit, unit + np.uint64(length), best[worse, 4], sizes[worse]]
        yield joined(np.stack(found, axis=1), length)


def joined(parts: np.ndarray, length: int) -> np.ndarray:
    """Parts of single windows, those of successive windows as one."""
    if not len(parts):
        return parts
    parts = rows.sort(parts)
    follows = (parts[1:, SAME_PART] == parts[:-1, SAME_PART]).all(axis=1)
    follows &= parts[1:, 1] == parts[:-1, 1] + np.uint64(1)
    first = np.flatnonzero(np.append(True, ~follows))
    last = np.append(first[1:], len(parts)) - 1
    whole = parts[first].copy()
    whole[:, 2] = parts[last, 1] + np.uint64(length)
    return whole


def cut_documents(
    cfg: Method,
    cut: Cut,
    characters: Callable[[str], ToCharacters],
    documents: Path,
    home: Path,
    out: Path,
    task: Task,
) -> dict[str, Any]:
    """Write this rank's documents without their repeated parts, or with a note where those are.

    ``characters`` tells for a text where its units are. A document with fewer than ``min_characters`` left goes.
    """
    register, files = shards.Registered(home / "register"), sorted((home / "parts").glob("*.rows"))
    mine = range(task.rank, len(shards.list_shards(documents)), task.ranks)
    found = {"shortened": 0, "characters_repeated": 0}

    def told() -> Iterator[np.ndarray]:
        for shard in mine:
            spans = [rows.span(path, PART, *shards.numbers_of(shard)) for path in files]
            yield from rows.merged_ranges(spans, PART, cfg.memory_mb * MB)

    decided = Decided(told())
    with Outcome(cfg, out, task.rank) as outcome:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            if not (parts := decided.of(doc.number)):
                outcome.keep(doc, 1)
                continue
            text = doc.document["text"]
            spans = [characters(text)(*units) for units in union(part[1:3] for part in parts)]
            spans = [(start, end) for start, end in spans if start < end]
            _one(outcome, cut, doc, spans, register.id_of(_most(parts, cut.length)), parts)
            found["shortened"] += 1
            found["characters_repeated"] += sum(end - start for start, end in spans)
        result = outcome.result()
    found["shortened"] -= result["duplicates"]
    return result | found


def _one(
    outcome: Outcome,
    cut: Cut,
    doc: Numbered,
    spans: list[tuple[int, int]],
    kept: str,
    parts: list[list[int]],
) -> None:
    text, size = doc.document["text"], max(part[4] for part in parts)
    left = without(text, spans)
    share = (len(text) - len(left)) / len(text)
    if cut.mark:
        found: dict[str, Any] = {"repeated": spans}
    elif len(left.strip()) < cut.min_characters:
        outcome.drop(doc, size, share, kept)
        return
    else:
        outcome.cut(doc, [text[start:end] for start, end in spans], size, share, kept)
        text, found = left, {"characters_removed": len(text) - len(left)}
    outcome.relate(doc, size, share, kept, whole=False)
    metadata = {**doc.metadata, **found}
    outcome.keep(Numbered(doc.number, doc.document | {"text": text, "metadata": metadata}), size)


def union(ranges: Iterable[list[int]]) -> list[tuple[int, int]]:
    """Ranges start:end in order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for start, end in sorted((first, last) for first, last in ranges):
        if found and start <= found[-1][1]:
            found[-1] = found[-1][0], max(end, found[-1][1])
        else:
            found.append((start, end))
    return found


def without(text: str, spans: list[tuple[int, int]]) -> str:
    """The text without the characters start:end of each span."""
    begins = [0, *(end for _, end in spans)]
    ends = [*(start for start, _ in spans), len(text)]
    return "".join(text[a:b] for a, b in zip(begins, ends, strict=True))


def _most(parts: list[list[int]], length: int) -> int:
    """The document that keeps most of the windows."""
    windows: dict[int, int] = {}
    for _, start, end, kept, _ in parts:
        windows[kept] = windows.get(kept, 0) + end - start - length + 1
    return min(windows, key=lambda kept: (-windows[kept], kept))
