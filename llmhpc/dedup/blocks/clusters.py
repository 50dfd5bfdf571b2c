"""From keys that documents share to clusters, and to one document of each that is kept."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.dedup import Method
from llmhpc.dedup.blocks import rows, shards
from llmhpc.dedup.blocks.components import components
from llmhpc.dedup.blocks.dealt import MB, files_of
from llmhpc.dedup.blocks.outcome import Decided, Outcome
from llmhpc.dedup.blocks.rows import Sorter
from llmhpc.dedup.blocks.shards import ORDER, Registered
from llmhpc.task import Task

KEYED = 3  # columns: two halves of a key, a document
VERDICT = 3  # columns: a document, the one that is kept, the size of the cluster
Similarity = Callable[
    [np.ndarray, np.ndarray], np.ndarray
]  # of documents dropped and kept, (n,) each


def write_pairs(cfg: Method, home: Path, out: Path, buckets: int, task: Task) -> dict[str, Any]:
    """Write pairs of documents that share a key to ``out``/pairs, for the buckets of this task."""
    pairs, mine = 0, range(task.rank, buckets, task.ranks)
    for done, bucket in enumerate(mine, 1):
        path = out / "pairs" / f"{bucket:04d}.rows"
        rows.write(path, _pairs(rows.merged(files_of(home, bucket), KEYED, cfg.memory_mb * MB)))
        pairs += rows.count(path, 2)
        task.progress(done, len(mine), "buckets")
    return {"pairs": pairs}


def _pairs(parts: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
    """Each document beside the first one that has the same key."""
    for part, heads, new in rows.with_heads(parts, 2):
        yield np.stack([heads[~new, 2], part[~new, 2]], axis=1)


def write_verdicts(cfg: Method, home: Path, out: Path) -> dict[str, Any]:
    """Join the pairs of all buckets to clusters, choose one document of each, write ``out``/verdicts.rows.

    Returns the number of clusters and of documents to remove.
    """
    memory, register = (
        cfg.memory_mb * MB // 2,
        Registered(home / "register"),
    )  # two sorters at a time
    edges = (
        part for path in sorted((home / "pairs").glob("*.rows")) for part in rows.blocks(path, 2)
    )
    by_document = Sorter(2, memory, out / "sorting")
    for part in components(edges, out / "sorting", memory):
        by_document.add(part[:, ::-1])
    by_cluster = Sorter(2 + ORDER, memory, out / "sorting")
    for part in by_document.sorted():  # in the order of the register
        order = register.entries(part[:, 0])[:, :ORDER]
        by_cluster.add(np.concatenate([part[:, 1:], order, part[:, :1]], axis=1))
    verdicts, clusters = Sorter(VERDICT, memory, out / "sorting"), 0
    ranked = rows.with_sizes(by_cluster.sorted(), 2 + ORDER, 1, out / "sorting")
    for part, best, sizes in ranked:
        clusters += int((part[:, -1] == best[:, -1]).sum())
        verdicts.add(np.stack([part[:, -1], best[:, -1], sizes], axis=1))
    path = out / "verdicts.rows"
    rows.write(path, verdicts.sorted())
    (out / "sorting").rmdir()
    return {"clusters": clusters, "to_remove": rows.count(path, VERDICT) - clusters}


def keep_best(
    cfg: Method, documents: Path, home: Path, out: Path, task: Task, similarity: Similarity
) -> dict[str, Any]:
    """Write each document of this rank's shards to where its verdict sends it."""
    register, verdicts = Registered(home / "register"), home / "verdicts.rows"
    mine = range(task.rank, len(shards.list_shards(documents)), task.ranks)

    def told() -> Iterator[np.ndarray]:
        """Verdicts with the similarity, in ten thousandths, as a fourth column."""
        for shard in mine:
            _, start, stop = rows.span(verdicts, VERDICT, *shards.numbers_of(shard))
            for at in range(start, stop, rows.BLOCK_ROWS):
                part = rows.read(verdicts, VERDICT, at, min(at + rows.BLOCK_ROWS, stop))
                alike = similarity(part[:, 0], part[:, 1])
                yield np.column_stack([part, np.round(alike * 1e4).astype(rows.U64)])

    decided = Decided(told())
    with Outcome(cfg, out, task.rank) as outcome:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            (_, kept, size, alike), *_ = decided.of(doc.number) or [[0, doc.number, 1, 0]]
            if kept == doc.number:
                outcome.keep(doc, size)
            else:
                outcome.drop(doc, size, alike / 1e4, register.id_of(kept))
        return outcome.result()
