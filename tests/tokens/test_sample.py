"""What is picked depends on the documents alone, is even over groups and fits its budget."""

import itertools
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmhpc.tokens import sample
from llmhpc.tokens.shards import place, shard_paths

BUDGET = 60_000


@pytest.fixture(scope="module")
def pages(prose):
    """Much of one language, some of another, little of a third, and of no known one."""
    draw, pages = random.Random(0), prose(900)
    for page, language in zip(
        pages, ["en"] * 700 + ["fr"] * 150 + ["is"] * 10 + [""] * 40, strict=True
    ):
        page["text"] = (page["text"] * 3)[: draw.randint(50, 1800)]
        page["metadata"]["language"] = language
        page["metadata"]["url"] = f"https://www.{language or 'x'}.example.org/{page['id']}"
    return draw.sample(pages, len(pages))


def picked(step, sample_by="language", ranks=1, budget=BUDGET, folder=None):
    shards = shard_paths(step)
    parts = [shards[rank::ranks] for rank in range(ranks)]
    picks = [sample.pick(part, budget, 0.1, sample_by) for part in parts]
    if folder is None:
        return picks[0]
    for rank, pick in enumerate(picks):
        sample.write(pick, folder / f"{rank:05d}")
    return sample.gather([folder / f"{rank:05d}" for rank in range(ranks)], budget)


def sizes(rows, pages):
    language = {page["id"]: page["metadata"]["language"] for page in pages}
    found = {}
    for _, identity, size, _ in rows:
        found[language[identity]] = found.get(language[identity], 0) + size
    return found


@pytest.mark.parametrize("sample_by", ["", "language", "domain"])
def test_ranks_shards_and_order_change_nothing(pages, write_documents, tmp_path, sample_by):
    found = []
    for number, (ranks, order) in enumerate(itertools.product((1, 8), (1, -1))):
        home = tmp_path / str(number)
        step = write_documents(home, pages[::order], shards=3 + number)
        for one in (
            picked(step, sample_by, ranks, folder=home / "work"),
            picked(step, sample_by) if ranks == 1 else None,
        ):
            if one:
                found.append([one.samples[split].rows() for split in sample.SPLITS])
                assert one.documents == len(pages)
    assert all(other == found[0] for other in found)
    assert len(found) == 6


def test_every_group_gives_as_much_and_small_ones_leave_the_rest_to_others(
    pages, write_documents, tmp_path
):
    rows = picked(write_documents(tmp_path, pages)).samples["train"].rows()
    there = [page for page in pages if place(page["id"]) >= 0.1]
    whole = {
        key: sum(len(p["text"]) for p in there if p["metadata"]["language"] == key)
        for key in ("en", "fr", "is", "")
    }
    found = sizes(rows, pages)
    assert whole["is"] < BUDGET / 4 < whole[""] < whole["fr"]
    assert found["is"] == whole["is"]
    level = (BUDGET - whole["is"]) / 3
    assert all(abs(found[key] - level) < 1800 for key in ("en", "fr", ""))


def test_without_groups_the_documents_at_the_end_of_the_line_are_taken(
    pages, write_documents, tmp_path
):
    one = picked(write_documents(tmp_path, pages), "")
    ids = [identity for _, identity, _, _ in one.samples["train"].rows()]
    assert ids == sorted((p["id"] for p in pages), key=place, reverse=True)[: len(ids)]
    assert abs(one.samples["train"].size_bytes - BUDGET) < 1800
    heldout = {identity for _, identity, _, _ in one.samples["heldout"].rows()}
    assert heldout == {p["id"] for p in pages if place(p["id"]) < 0.1}


def plainly(documents, budget):
    """The same with all documents at hand: the level by trying, then every document by what stands before it."""
    groups = {}
    for group, key, identity, size in documents:
        groups.setdefault(group, []).append((key, identity, size))
    totals = [sum(size for _, _, size in rows) for rows in groups.values()]
    level = max(n for n in range(budget + 1) if sum(min(n, t) for t in totals) <= budget)
    taken = set()
    for rows in groups.values():
        start = 0
        for _, identity, size in sorted(rows, reverse=True):
            if sum(totals) <= budget or start + size * sample._luck(identity) < level:
                taken.add(identity)
            start += size
    return taken


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 4), st.integers(0, 50), st.integers(0, 40)), max_size=60),
    st.integers(1, 400),
)
def test_what_is_taken_document_by_document_is_what_all_at_once_would_give(drawn, budget):
    documents = [(g, key / 50, str(n), size) for n, (g, key, size) in enumerate(drawn)]
    one = sample.Sample(budget)
    for name, key, identity, size in documents:
        group = one.group(name)
        group.size += size
        one.hold(group, (key, identity, size, b""))
    assert {identity for _, identity, _, _ in one.rows()} == plainly(documents, budget)


def test_as_much_is_taken_as_the_budget_says_however_many_groups(pages, write_documents, tmp_path):
    each = [page | {"metadata": {"source": page["id"]}} for page in pages]
    size = picked(write_documents(tmp_path, each), "source").samples["train"].size_bytes
    assert BUDGET * 0.8 < size < BUDGET * 1.2


def test_no_more_than_the_budget_and_a_bit_is_held_at_a_time(
    pages, write_documents, tmp_path, monkeypatch
):
    most = []
    hold = sample.Sample.hold
    monkeypatch.setattr(
        sample.Sample, "hold", lambda self, *a: (hold(self, *a), most.append(self._held))
    )
    picked(write_documents(tmp_path, pages))
    assert max(most) < BUDGET * sample.SLACK**2 + 1800


def test_a_copy_of_a_mixture_is_trained_on_and_not_measured_with(pages, write_documents, tmp_path):
    copies = [page | {"id": page["id"] + "#repeat1"} for page in pages]
    one = picked(write_documents(tmp_path, pages + copies), "", budget=10_000_000)
    rows = {split: [row[1] for row in one.samples[split].rows()] for split in sample.SPLITS}
    assert sum("#" in name for name in rows["train"]) == len(rows["train"]) / 2
    assert not any("#" in name for name in rows["heldout"])


@pytest.mark.parametrize(
    ("metadata", "domain"),
    [
        ({"url": "https://www.Example.org/a"}, "example.org"),
        ({"url": "http://[broken"}, "unknown"),
        ({"domain": "given.org", "url": "https://other.org"}, "given.org"),
        ({}, "unknown"),
        (None, "unknown"),
    ],
)
def test_the_domain_is_that_of_the_address(metadata, domain):
    assert sample.value_of({"metadata": metadata}, "domain") == domain
