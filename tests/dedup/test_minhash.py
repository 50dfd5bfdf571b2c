import random

import numpy as np
import pytest
import zstandard

from llmhpc.dedup import minhash
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.jobs import dedup

COPIES = 40


def by_minhash(ranks=1, **settings):
    return dedup.Config(ranks=ranks, method=minhash.Config(**settings))


@pytest.fixture(scope="module")
def documents(prose, with_copies):
    return with_copies(prose(160), COPIES)


@pytest.fixture(scope="module")
def crawl(documents, write_documents, tmp_path_factory):
    return {"documents": write_documents(tmp_path_factory.mktemp("crawl"), documents)}


@pytest.fixture(scope="module")
def deduped(crawl, run_stage, tmp_path_factory):
    home = tmp_path_factory.mktemp("dedup")
    return run_stage(by_minhash(3), crawl, home), home


def test_of_each_pair_of_near_duplicates_one_is_kept(deduped, documents, read_documents):
    counts, home = deduped
    kept = {document["id"] for document in read_documents(home)}
    assert len(kept) == len(documents) - COPIES
    for number in range(COPIES):
        assert len({f"page-{number}", f"copy-{number}"} & kept) == 1
    assert counts["documents_in"] == len(documents)
    assert counts["documents"] == len(kept)
    assert counts["duplicates"] == counts["clusters"] == counts["to_remove"] == COPIES


def test_a_removed_document_names_the_one_that_stayed(deduped, documents, read_documents):
    _, home = deduped
    kept, removed = read_documents(home), read_documents(home, "removed/duplicate")
    lines = read_documents(home, "clusters")
    assert len(removed) == len(lines) == COPIES
    ids = {document["id"]: document for document in kept}
    order = [document["id"] for shard in range(3) for document in documents[shard::3]]
    for document, line in zip(removed, lines, strict=True):
        assert line["dropped"] == document["id"]
        assert {line["dropped"].split("-")[1]} == {line["kept"].split("-")[1]}
        assert order.index(line["kept"]) < order.index(line["dropped"])
        assert line["cluster_size"] == ids[line["kept"]]["metadata"]["cluster_size"] == 2
        assert line["similarity"] == pytest.approx(0.92, abs=0.1)
        assert document["metadata"]["duplicate_of"] == line["kept"]
    assert sum(document["metadata"]["cluster_size"] == 1 for document in kept) == len(kept) - COPIES
    assert all(document["metadata"]["url"] for document in kept)


def test_ranks_in_another_order_make_the_same_bytes(deduped, crawl, run_stage, files_of, tmp_path):
    counts, home = deduped
    assert run_stage(by_minhash(3), crawl, tmp_path, backwards=True) == counts
    assert files_of(tmp_path) == files_of(home)


def test_ranks_without_a_shard_do_no_harm(deduped, crawl, run_stage, read_documents, tmp_path):
    _, home = deduped
    run_stage(by_minhash(5), crawl, tmp_path)
    assert {d["id"] for d in read_documents(tmp_path)} == {d["id"] for d in read_documents(home)}


def test_a_chain_of_copies_is_one_cluster(
    prose, run_stage, write_documents, read_documents, tmp_path
):
    chain = [prose(1, words=300)[0] | {"id": "0"}]
    for link in range(1, 6):
        words = chain[-1]["text"].split()
        words[40 * link] = f"link{link}"
        chain.append(chain[0] | {"text": " ".join(words), "id": str(link)})
    inputs = {"documents": write_documents(tmp_path / "in", chain)}
    counts = run_stage(by_minhash(2), inputs, tmp_path / "out")
    (kept,) = read_documents(tmp_path / "out")
    assert kept["metadata"]["cluster_size"] == len(chain)
    assert counts["clusters"] == 1


@pytest.mark.parametrize("language", ["en", "de", "th"])
def test_signatures_are_those_of_the_stock_block_to_the_last_bit(prose, language):
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    from llmhpc.dedup.blocks.signature import SHINGLES_AT_ONCE, Signer

    if language == "th":
        pytest.importorskip("pythainlp")
    rng = random.Random(3)
    texts = [document["text"] for document in prose(10)]
    texts += [prose(1, words=4 * SHINGLES_AT_ONCE + 5)[0]["text"], "1,5 2.5 3 4,x 5.6.7 it's 8%"]
    texts += [
        "z. B. Ja, EE. UU. 10km",
        "\u039f\u0394\u039f\u03a3 na\u00efve e\u0301tude \u0301 x \u00a8",
    ]
    texts += [
        "".join(chr(rng.choice([32, 160, 0x3000, rng.randrange(33, 0xD800)])) for _ in range(400))
        for _ in range(20)
    ]
    texts += [
        "He can't re-read   it's\tself; e.g. 5pm on Monday, U.S.A. :-) <3 don't won't a.m. WEEKDAY's"
    ]
    stock, ours = MinhashDedupSignature(".", MinhashConfig(), language), Signer(112, 5, language)
    for text in texts:
        assert ours.shingles(text).tolist() == stock.get_shingles(text).ravel().tolist(), text
        wanted = np.concatenate(stock.get_signature(stock.get_shingles(text)))
        assert ours.sign(text).tolist() == wanted.tolist(), text
    assert ours.sign("too short") is None
    assert ours.sign("") is None


def test_a_minimum_among_the_numbers_that_wrap_is_that_of_a_division():
    from llmhpc.dedup.blocks.signature import PRIME, Signer

    signer = Signer(1, 5, "en")
    signer._factors[:], signer._offsets[:] = 1, 0
    for values in ([2**61 + 3, 2], [2**61 - 1, 5], [2**64 - 1], [2**62 + 5, 2**61 - 2]):
        shingles = np.array(values, np.uint64)
        assert signer.minima(shingles).tolist() == [(shingles % PRIME).min()]


def test_a_line_that_is_no_document_is_an_error_and_not_passed_over(run_stage, tmp_path):
    (tmp_path / "in/documents").mkdir(parents=True)
    broken = zstandard.ZstdCompressor().compress(
        b'{"text": "a b c d e f", "id": "1"}\n{"text": "a b\n'
    )
    (tmp_path / "in/documents/00000.jsonl.zst").write_bytes(broken)
    with pytest.raises(ArtifactError, match="00000.jsonl.zst: line 2 is no document"):
        run_stage(by_minhash(), {"documents": tmp_path / "in"}, tmp_path / "out")


def test_half_of_the_pairs_at_half_similarity_meet():
    for buckets, hashes in (14, 8), (9, 13), (1, 1):
        half = minhash.half_similarity(buckets, hashes)
        assert 1 - (1 - half**hashes) ** buckets == pytest.approx(0.5)


@pytest.mark.parametrize("wanted", [0.5, 0.69, 0.8, 0.9])
def test_buckets_follow_from_the_similarity_that_is_wanted(wanted):
    buckets, hashes = minhash.Config(similarity=wanted).bands()
    assert buckets * hashes <= 112
    assert minhash.half_similarity(buckets, hashes) == pytest.approx(wanted, abs=0.02)


@pytest.mark.parametrize(("ranks", "tasks"), [(1, 1), (4, 1), (5, 2), (56, 14), (1000, 14)])
def test_bucket_tasks_grow_with_the_ranks_up_to_one_per_bucket(ranks, tasks):
    assert dict(by_minhash(ranks).phases())["buckets"] == tasks


@pytest.mark.parametrize("field", ["num_buckets", "hashes_per_bucket", "ngram_words", "memory_mb"])
def test_a_field_below_one_is_refused(field):
    with pytest.raises(ConfigError, match=f"{field}=0: 1 or more"):
        minhash.Config(**{field: 0})


def test_a_similarity_that_is_none_is_refused():
    with pytest.raises(ConfigError, match="similarity=1: more than 0 and less than 1"):
        minhash.Config(similarity=1)


def test_more_memory_than_a_task_has_is_a_finding():
    config = by_minhash(memory_mb=1800)
    (finding,) = config.foresee({}, None, machine_gb=None)
    assert finding.message.startswith("resources.mem_gb=2: minhash takes 2.3;")
    assert not by_minhash().foresee({}, None, machine_gb=None)
