import json
from itertools import pairwise

import pytest

from llmhpc.dedup import Keep, minhash, sentence, substring, url
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.jobs import dedup


def by_url(ranks=1, **settings):
    return dedup.Config(ranks=ranks, method=url.Config(**settings))


def by_sentence(ranks=1, **settings):
    return dedup.Config(ranks=ranks, method=sentence.Config(**settings))


def page(name, address, text="some text", **metadata):
    return {"id": name, "text": text, "metadata": {"url": address, **metadata}}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("http://www.Example.org/a/", "https://example.org/a#top", True),
        ("https://example.org:443", "http://example.org:80/", True),
        ("https://example.org/a?x=1", "https://example.org/a?x=2", False),
        ("https://example.org/a", "https://example.org/A", False),
        ("https://example.org:8080/a", "https://example.org/a", False),
        ("http://[broken", "http://[broken ", True),
    ],
)
def test_addresses_in_normal_form(one, other, same):
    assert (url.normal_form(one) == url.normal_form(other)) is same


def test_one_page_of_each_address_stays(run_stage, write_documents, read_documents, tmp_path):
    pages = [page(str(n), f"https://example.org/{n % 7}") for n in range(30)]
    pages += [page("none", ""), page("missing", None)]
    for ranks, buckets in ((1, 1), (3, 2), (5, 4)):
        inputs = {"documents": write_documents(tmp_path / f"in-{ranks}", pages)}
        home = tmp_path / str(ranks)
        counts = run_stage(by_url(ranks, buckets=buckets), inputs, home)
        kept = {d["id"] for d in read_documents(home)}
        assert counts["without_url"] == 2
        assert counts["clusters"] == 7
        assert kept >= {"none", "missing"}
        assert {int(name) % 7 for name in kept - {"none", "missing"}} == set(range(7))
        assert len(kept) == 9
        for line in read_documents(home, "clusters"):
            assert int(line["dropped"]) % 7 == int(line["kept"]) % 7
            assert line["similarity"] == 1
            assert line["cluster_size"] in (4, 5)


@pytest.mark.parametrize("kind", ["sentence", "substring"])
def test_the_size_of_a_cluster_is_the_number_of_its_documents(
    kind, prose, run_stage, write_documents, read_documents, tmp_path
):
    own = [document["text"] for document in prose(8, words=60)]
    shared = prose(1, words=40, seed=3)[0]["text"]
    texts = [" ".join([own[0], shared, own[1], shared, own[2], shared]), f"{own[3]} {shared} {own[4]}",
             f"{own[5]} {shared} {own[6]}", own[7]]  # fmt: skip
    documents = [{"id": str(n), "text": text, "metadata": {}} for n, text in enumerate(texts)]
    method = (
        sentence.Config(sentences=1, min_characters=10)
        if kind == "sentence"
        else substring.Config()
    )
    inputs = {"documents": write_documents(tmp_path / "in", documents)}
    run_stage(dedup.Config(method=method), inputs, tmp_path / "out")
    sizes = {line["cluster_size"] for line in read_documents(tmp_path / "out", "clusters")}
    assert sizes == {3}


@pytest.mark.parametrize(
    ("keep", "field", "best"),
    [("first", "", "a"), ("longest", "", "b"), ("newest", "date", "c"), ("highest", "score", "d")],
)
def test_the_best_copy_stays(
    keep, field, best, run_stage, write_documents, read_documents, tmp_path
):
    address = "https://example.org/"
    pages = [
        page("a", address, "text", date="2023-01-01T00:00:00Z", score=-2),
        page("b", address, "longest text", date="2024-01-01", score=-1.5),
        page("c", address, "text", date="2024-01-01T00:00:01+00:00", score=-1e9),
        page("d", address, "text", date="2024-01-01T01:00:00+02:00", score=0.25),
        page("e", address, "text"),
    ]
    inputs = {"documents": write_documents(tmp_path / "in", pages, shards=1)}
    run_stage(by_url(keep=Keep[keep], keep_field=field), inputs, tmp_path / "out")
    assert [d["id"] for d in read_documents(tmp_path / "out")] == [best]


def test_among_equals_the_id_decides_and_not_the_place(
    run_stage, write_documents, read_documents, tmp_path
):
    pages, kept = [page(name, "https://example.org/") for name in "abcdefg"], set()
    for number, order in enumerate((pages, pages[::-1], pages[3:] + pages[:3])):
        inputs = {"documents": write_documents(tmp_path / f"in-{number}", order)}
        run_stage(by_url(2, keep=Keep.longest), inputs, tmp_path / str(number))
        kept |= {d["id"] for d in read_documents(tmp_path / str(number))}
    assert len(kept) == 1


def test_only_documents_that_agree_in_within_are_compared(
    run_stage, write_documents, read_documents, tmp_path
):
    pages = [page(str(n), "https://example.org/", dump="ab"[n % 2]) for n in range(6)]
    inputs = {"documents": write_documents(tmp_path / "in", pages, shards=1)}
    run_stage(by_url(within="dump"), inputs, tmp_path / "out")
    assert [d["id"] for d in read_documents(tmp_path / "out")] == ["0", "1"]


def test_scores_of_kept_and_removed_are_added_up_by_cluster_size(
    run_stage, write_documents, tmp_path
):
    addresses = ["x", "x", "y", "y", "y", "y", "y", "z"]
    pages = [page(str(n), a, quality=n / 2) for n, a in enumerate(addresses)]
    inputs = {"documents": write_documents(tmp_path / "in", pages, shards=1)}
    counts = run_stage(by_url(score_field="quality"), inputs, tmp_path / "out")
    assert counts["by_cluster_size"] == {
        "001-001": {"kept": 1, "kept_scored": 1, "kept_score": 3.5},
        "002-002": {
            "kept": 1, "kept_scored": 1, "kept_score": 0.0,
            "removed": 1, "removed_scored": 1, "removed_score": 0.5,
        },
        "004-007": {
            "kept": 1, "kept_scored": 1, "kept_score": 1.0,
            "removed": 4, "removed_scored": 4, "removed_score": 9.0,
        },
    }  # fmt: skip


def test_methods_can_follow_each_other(
    prose, with_copies, run_stage, write_documents, read_documents, tmp_path
):
    pages = with_copies(prose(30), 8)  # a copy has the address of its original
    for number, document in enumerate(pages):
        if document["id"].startswith("copy-") and number % 2:
            document["metadata"] = {"url": f"https://elsewhere.org/{number}"}
    elsewhere = sum("elsewhere" in document["metadata"]["url"] for document in pages)
    assert 0 < elsewhere < 8
    inputs = {"documents": write_documents(tmp_path / "in", pages)}
    first = run_stage(by_url(2), inputs, tmp_path / "url")
    second = run_stage(
        dedup.Config(ranks=3, method=minhash.Config()),
        {"documents": tmp_path / "url"},
        tmp_path / "out",
    )
    assert (first["duplicates"], second["duplicates"]) == (8 - elsewhere, elsewhere)
    assert len(read_documents(tmp_path / "out")) == 30


def test_a_field_that_is_no_date_is_an_error(run_stage, write_documents, tmp_path):
    inputs = {
        "documents": write_documents(tmp_path / "in", [page("a", "x", date="soon")], shards=1)
    }
    config = by_url(keep=Keep.newest, keep_field="date")
    with pytest.raises(ArtifactError, match="a: metadata.date=soon, not a date in ISO 8601"):
        run_stage(config, inputs, tmp_path / "out")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"keep": Keep.newest}, "keep=newest: keep_field says by which metadata"),
        ({"keep_field": "x"}, "keep_field=x: used by keep=newest and keep=highest, not first"),
        ({"url_field": ""}, "url_field=''"),
        ({"buckets": 0}, "buckets=0: 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        url.Config(**settings)


def test_sentences_are_split_where_they_end():
    text = 'One. Two?  "Three!" Four 3.5 is\nfive。六！ end'
    begins = sentence.bounds(text)
    found = [text[a:b] for a, b in pairwise(begins)]
    assert found == ["One. ", "Two?  ", '"Three!" ', "Four 3.5 is\n", "five。", "六！ ", "end"]
    assert "".join(found) == text
    assert sentence.bounds("") == [0]


def repeated_sentences(texts, count):
    """By brute force: the sentences of each text that lie in a span which was there before."""
    seen, found = set(), []
    for text in texts:
        begins = sentence.bounds(text)
        parts = [text[a:b] for a, b in pairwise(begins)]
        normal = [" ".join(part.lower().split()) for part in parts]
        repeated = set()
        for at in range(len(parts) - count + 1):
            span = tuple(normal[at : at + count])
            if span in seen:
                repeated |= set(range(at, at + count))
            seen.add(span)
        found.append("".join(part for n, part in enumerate(parts) if n not in repeated))
    return found


@pytest.fixture(scope="module")
def shared(prose):
    """Texts made of few sentences, so that spans of two and three come again."""
    import random

    rng = random.Random(0)
    sentences = [document["text"] for document in prose(25, words=6)]
    starts = [rng.randrange(20) for _ in range(120)]
    texts = [
        "\n".join(
            f"{sentences[(starts[3 * n + part] + k) % 25]} " for part in range(3) for k in range(4)
        )
        for n in range(40)
    ]
    return [{"id": str(n), "text": text, "metadata": {}} for n, text in enumerate(texts)]


def test_spans_of_sentences_that_were_there_are_cut_out(
    shared, run_stage, write_documents, read_documents, files_of, tmp_path
):
    inputs = {"documents": write_documents(tmp_path / "in", shared, shards=1)}
    wanted = repeated_sentences([document["text"] for document in shared], 3)
    for ranks, buckets in ((1, 1), (2, 3)):
        home = tmp_path / str(ranks)
        counts = run_stage(by_sentence(ranks, buckets=buckets, min_characters=60), inputs, home)
        kept = {int(d["id"]): d["text"] for d in read_documents(home)}
        left = {n: text for n, text in enumerate(wanted) if len(text.strip()) >= 60 or n in kept}
        assert kept == left
        removed = read_documents(home, "removed/duplicate")
        gone = {int(d["id"]) for d in removed if d["metadata"].get("whole", True)}
        assert len(removed) == len(gone) + counts["shortened"]
        assert gone == set(range(40)) - set(kept)
        assert counts["duplicates"] == len(gone) > 0
        assert counts["shortened"] > 0
        lines = read_documents(home, "clusters")
        assert {int(line["dropped"]) for line in lines if line["whole"]} == gone
    config = by_sentence(2, buckets=3, min_characters=60)
    run_stage(config, inputs, tmp_path / "again", backwards=True)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "2")


def test_ranks_change_no_document(shared, run_stage, write_documents, read_documents, tmp_path):
    inputs, kept = {"documents": write_documents(tmp_path / "in", shared)}, []
    for ranks in (1, 3):
        run_stage(by_sentence(ranks, buckets=ranks, mark=True), inputs, tmp_path / str(ranks))
        kept.append(sorted(map(json.dumps, read_documents(tmp_path / str(ranks)))))
    assert kept[0] == kept[1]
