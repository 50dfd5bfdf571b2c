import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.dedup.blocks import rows
from llmhpc.dedup.blocks.components import components
from llmhpc.dedup.blocks.rows import Sorter

MEMORY = [100, 1000, 1 << 20]  # bytes: a few rows, some, all


def together(parts, columns):
    return np.concatenate([np.empty((0, columns), np.uint64), *parts])


@pytest.mark.parametrize("memory", MEMORY)
def test_rows_come_back_sorted_whatever_the_memory(memory, tmp_path):
    rng = np.random.default_rng(memory)
    table = rng.integers(0, 5, (700, 3), dtype=np.uint64)
    sorter = Sorter(3, memory, tmp_path)
    for start in range(0, 700, 90):
        sorter.add(table[start : start + 90])
    found = together(sorter.sorted(), 3)
    assert found.tolist() == sorted(table.tolist())
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("memory", MEMORY)
def test_groups_are_whole_across_blocks(memory, tmp_path):
    table = rows.sort(np.random.default_rng(3).integers(0, 9, (400, 2), dtype=np.uint64))
    for number in range(4):
        rows.write(tmp_path / f"{number}.rows", [table[number::4]])
    parts = rows.merged(sorted(tmp_path.glob("*.rows")), 2, memory)
    found = list(rows.with_sizes(parts, 2, 1, tmp_path / "sizes"))
    assert together([part for part, _, _ in found], 2).tolist() == table.tolist()
    values, first, sizes = np.unique(table[:, 0], return_index=True, return_counts=True)
    group = np.searchsorted(values, table[:, 0])
    assert together([heads for _, heads, _ in found], 2).tolist() == table[first][group].tolist()
    assert np.concatenate([size for *_, size in found]).tolist() == sizes[group].tolist()


def by_walking(edges):
    """Components by brute force: (least node, node), sorted."""
    least = {node: node for edge in edges for node in edge if edge[0] != edge[1]}
    changed = True
    while changed:
        changed = False
        for a, b in edges:
            if a != b and least[a] != least[b]:
                least[a] = least[b] = min(least[a], least[b])
                changed = True
    return sorted([root, node] for node, root in least.items())


@settings(max_examples=40, deadline=None)
@given(
    edges=st.lists(st.tuples(st.integers(0, 25), st.integers(0, 25)), max_size=40),
    memory=st.sampled_from([100, 1 << 20]),
)
def test_components_are_those_of_a_walk(edges, memory, tmp_path_factory):
    table = np.array(edges, np.uint64).reshape(-1, 2)
    found = together(components([table], tmp_path_factory.mktemp("graph"), memory), 2)
    assert found.tolist() == by_walking(edges)


def test_a_long_chain_and_a_large_star_are_one_component_each(tmp_path):
    chain = np.stack([np.arange(2000), np.arange(1, 2001)], axis=1).astype(np.uint64)
    star = np.stack([np.full(3000, 5000), np.arange(5001, 8001)], axis=1).astype(np.uint64)
    found = together(components([star, chain], tmp_path, 1 << 17), 2)
    assert found[:, 0].tolist() == [0] * 2001 + [5000] * 3001


def peak_of_components(nodes, folder):
    """Bytes that numpy and Python hold at most while the components of a graph of pairs are found."""

    def edges():
        for start in range(0, nodes, 10_000):
            some = np.arange(start, start + 10_000, dtype=np.uint64)
            yield np.stack([some, some ^ np.uint64(1)], axis=1)

    tracemalloc.start()
    try:
        count = sum(len(part) for part in components(edges(), folder, 1 << 20))
        assert count == nodes
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_documents(tmp_path):
    small, large = (peak_of_components(nodes, tmp_path) for nodes in (100_000, 400_000))
    assert large < 1.2 * small
    assert (
        large < 16 << 20
    )  # in which 400 thousand edges, both ways, would take 13 MB by themselves
