"""Connected components of a graph that does not fit in memory, by sorting its edges.

Large-star and small-star in turn until nothing changes (Kiveris, Lattanzi, Mirrokni, Rastogi, Vassilvitskii:
Connected Components in MapReduce and Beyond, SoCC 2014, algorithm 1), each one a sort and one pass.
"""

import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import xxhash

from llmhpc.dedup.blocks import rows
from llmhpc.dedup.blocks.rows import Sorter

EDGE = 2  # columns: a node and another


def components(edges: Iterable[np.ndarray], folder: Path, memory: int) -> Iterator[np.ndarray]:
    """Rows (least node of its component, node), sorted, for every node with an edge, itself included.

    ``edges`` are rows (node, node) in any order, as often as they come.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as name:
        work = Path(name)

        def ordered(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
            return rows.unique(Sorter(EDGE, memory, work).add_all(parts).sorted())

        stars, before = work / "stars.rows", ""
        after = _write(stars, ordered(_downward(edges)))
        while after != before:
            before, fresh = after, work / "fresh.rows"
            large = _large_star(ordered(_both_ways(rows.blocks(stars, EDGE))))
            after = _write(fresh, ordered(_small_star(ordered(large))))
            fresh.replace(stars)
        turned = (part[:, ::-1] for part in rows.blocks(stars, EDGE))
        for part, _, new in rows.with_heads(ordered(turned), 1):
            roots = part[new][:, [0, 0]]
            yield rows.sort(np.concatenate([roots, part]))


def _write(path: Path, parts: Iterable[np.ndarray]) -> str:
    """Write the rows; returns a digest of them."""
    digest = xxhash.xxh3_128()

    def passing() -> Iterator[np.ndarray]:
        for part in parts:
            digest.update(part.tobytes())
            yield part

    rows.write(path, passing())
    return digest.hexdigest()


def _downward(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """Each edge from the greater to the lesser node, loops left out."""
    for part in parts:
        down = np.stack([part.max(axis=1), part.min(axis=1)], axis=1)
        yield down[down[:, 0] != down[:, 1]]


def _both_ways(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for part in parts:
        yield part
        yield part[:, ::-1]


def _large_star(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """For each node u with least neighbour m: every greater neighbour gets an edge to min(u, m)."""
    for part, heads, _ in rows.with_heads(parts, 1):
        least = np.minimum(part[:, 0], heads[:, 1])
        greater = part[:, 1] > part[:, 0]
        yield np.stack([part[greater, 1], least[greater]], axis=1)


def _small_star(parts: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """For each node u with lesser neighbours, the least of them m: u and the others get an edge to m."""
    for part, heads, new in rows.with_heads(parts, 1):
        others = np.stack([part[:, 1], heads[:, 1]], axis=1)
        yield np.concatenate([part[new], others[~new]])
