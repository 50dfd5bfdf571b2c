"""The report tells texts that repeat each other from texts that do not, and the page shows it."""

import pytest

from llmhpc.generation import diversity
from llmhpc.report.page import render
from llmhpc.report.upstream import gather
from llmhpc.tokens.shards import silent


def with_topics(documents, topics):
    return [
        d | {"metadata": {"topic": topics[n % len(topics)], "style": "story"}}
        for n, d in enumerate(documents)
    ]


@pytest.fixture(scope="module")
def reports(prose, with_copies, write_documents, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    varied = with_topics(prose(60), ["soil", "maps"])
    copied = with_topics(with_copies(prose(60), 30), ["soil", "maps"])
    homes = (write_documents(folder / str(n), d) for n, d in enumerate((varied, copied)))
    return [diversity.report(home, 1000, silent) for home in homes]


def test_copies_are_counted_and_make_the_texts_less_diverse(reports):
    varied, copied = (report["all"] for report in reports)
    assert (varied["documents"], copied["documents"]) == (60, 90)
    assert varied["near_duplicates"] == 0.0
    assert copied["near_duplicates"] == pytest.approx(60 / 90, abs=0.03)
    assert copied["self_similarity"] > varied["self_similarity"]
    assert varied["distinct_ngrams"]["4"] > 0.99
    assert copied["distinct_ngrams"]["4"] < 0.75
    assert copied["compression_ratio"] > 1.2 * varied["compression_ratio"]


def test_distinct_ngrams_are_counted_as_by_a_set(prose, with_copies, write_documents, tmp_path):
    documents = [*with_copies(prose(40), 20), {"text": "of three words", "id": "short"}]
    documents = [d | {"metadata": {}} for d in documents]
    found = diversity.report(write_documents(tmp_path / "x", documents), 100, silent)["all"]
    for length in range(1, 5):
        rows = [d["text"].lower().split() for d in documents]
        grams = [tuple(row[n : n + length]) for row in rows for n in range(len(row) - length + 1)]
        assert found["distinct_ngrams"][str(length)] == round(len(set(grams)) / len(grams), 4)


def test_two_texts_have_the_similarity_of_their_ngrams(prose, write_documents, tmp_path):
    document, more = prose(2, words=200)
    # 146 of 246 different 5-grams in common
    other = " ".join(document["text"].split()[:150] + more["text"].split()[:50])
    pair = [document, document | {"id": "other", "text": other}]
    found = diversity.report(write_documents(tmp_path / "x", pair), 10, silent)
    assert found["all"]["self_similarity"] == pytest.approx(146 / 246, abs=0.12)


def test_every_group_has_its_figures_and_the_lengths_are_words(reports):
    varied = reports[0]
    assert {axis: list(named) for axis, named in varied["by"].items()} == {
        "topic": ["maps", "soil"], "style": ["story"],
    }  # fmt: skip
    assert varied["by"]["topic"]["soil"]["documents"] == 30
    assert varied["all"]["words"] == {"mean": 120.0, "p5": 120.0, "p50": 120.0, "p95": 120.0}


def test_the_sample_does_not_depend_on_the_shards(prose, write_documents, tmp_path):
    homes = (
        write_documents(tmp_path / str(n), with_topics(prose(50), ["a"]), shards=n) for n in (1, 4)
    )
    one, other = (diversity.report(home, 20, silent) for home in homes)
    assert one == other
    assert one["sampled"] == 20


def test_a_step_that_kept_nothing_has_a_report(write_documents, tmp_path):
    found = diversity.report(write_documents(tmp_path / "x", [], shards=1), 10, silent)
    assert found["all"]["self_similarity"] is found["all"]["distinct_ngrams"]["1"] is None


def test_the_page_shows_a_stage_that_generated(server, asks, tmp_path):
    from llmhpc import step

    from .test_restarts import ordered

    home = ordered(asks(), tmp_path)
    assert step.main([str(home)]) == 0
    page = render(gather(tmp_path / "report-00000000", {"scores": home}, title="t"), 2, 100)
    assert "Synthetic documents" in page
    assert "requests to test-model" in page
    for name in ("soil", "sound", "maps", "children", "adults", "lesson", "story"):
        assert f"<td>{name}</td>" in page
