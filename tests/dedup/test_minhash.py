import filecmp
import random

import pytest
import zstandard

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.jobs import dedup

COPIES = 40


@pytest.fixture(scope="module")
def documents(prose, with_copies):
    return with_copies(prose(160), COPIES)


@pytest.fixture(scope="module")
def crawl(documents, write_documents, tmp_path_factory):
    return {"documents": write_documents(tmp_path_factory.mktemp("crawl"), documents)}


@pytest.fixture(scope="module")
def deduped(crawl, run_stage, tmp_path_factory):
    home = tmp_path_factory.mktemp("dedup")
    return run_stage(dedup.Config(ranks=3), crawl, home), home


def test_of_each_pair_of_near_duplicates_one_is_kept(deduped, documents, read_documents):
    counts, home = deduped
    kept = {document["id"] for document in read_documents(home)}
    assert len(kept) == len(documents) - COPIES
    for number in range(COPIES):
        assert len({f"page-{number}", f"copy-{number}"} & kept) == 1
    assert counts["documents_in"] == len(documents)
    assert counts["documents"] == len(kept)
    assert counts["duplicates"] == counts["clusters"] == counts["to_remove"] == COPIES


def test_a_removed_document_names_the_cluster_of_the_one_that_stayed(deduped, read_documents):
    _, home = deduped
    kept, removed = read_documents(home), read_documents(home, "removed/duplicate")
    clusters = [document["metadata"]["minhash_cluster_id"] for document in kept]
    assert len(removed) == COPIES
    for document in removed:
        assert document["metadata"]["minhash_cluster_size"] == 2
        assert clusters.count(document["metadata"]["minhash_cluster_id"]) == 1
    assert clusters.count(-1) == len(kept) - COPIES
    assert all(document["metadata"]["url"] for document in kept)


def test_ranks_in_another_order_make_the_same_bytes(deduped, crawl, run_stage, files_of, tmp_path):
    counts, home = deduped
    assert run_stage(dedup.Config(ranks=3), crawl, tmp_path, backwards=True) == counts
    assert files_of(tmp_path) == files_of(home)


def test_ranks_without_a_shard_do_no_harm(deduped, crawl, run_stage, read_documents, tmp_path):
    _, home = deduped
    run_stage(dedup.Config(ranks=5), crawl, tmp_path)
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
    counts = run_stage(dedup.Config(ranks=2), inputs, tmp_path / "out")
    (kept,) = read_documents(tmp_path / "out")
    assert kept["metadata"]["minhash_cluster_size"] == len(chain)
    assert counts["clusters"] == 1


def test_signatures_are_those_of_the_stock_block_to_the_last_bit(prose, tmp_path):
    from datatrove.data import Document
    from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature

    from llmhpc.dedup.signature import SHINGLES_AT_ONCE, Signatures

    rng = random.Random(3)
    texts = [document["text"] for document in prose(20)]
    texts += [
        prose(1, words=SHINGLES_AT_ONCE + 500)[0]["text"],
        "too short",
        "",
        "z. B. Ja, EE. UU. 10km",
    ]
    texts += [
        "".join(chr(rng.choice([32, 160, 0x3000, rng.randrange(33, 0xD800)])) for _ in range(400))
    ]
    texts += [
        "He can't re-read   it's\tself; e.g. 5pm on Monday, U.S.A. :-) <3 don't won't a.m. WEEKDAY's"
    ]
    documents = [Document(text=text, id=str(number)) for number, text in enumerate(texts)]
    for name, block in ("ours", Signatures), ("stock", MinhashDedupSignature):
        block(str(tmp_path / name), MinhashConfig(), "en").run(iter(documents))
    for path in (tmp_path / "ours").rglob("*.sig"):
        assert path.stat().st_size
        assert filecmp.cmp(
            path, tmp_path / "stock" / path.relative_to(tmp_path / "ours"), shallow=False
        )


def test_a_line_that_is_no_document_is_an_error_and_not_passed_over(run_stage, tmp_path):
    (tmp_path / "in/documents").mkdir(parents=True)
    broken = zstandard.ZstdCompressor().compress(
        b'{"text": "a b c d e f", "id": "1"}\n{"text": "a b\n'
    )
    (tmp_path / "in/documents/00000.jsonl.zst").write_bytes(broken)
    with pytest.raises(ArtifactError, match="2 lines but 1 documents"):
        run_stage(dedup.Config(), {"documents": tmp_path / "in"}, tmp_path / "out")


def test_half_of_the_pairs_at_half_similarity_meet():
    for buckets, hashes in (14, 8), (9, 13), (1, 1):
        config = dedup.Config(num_buckets=buckets, hashes_per_bucket=hashes)
        assert 1 - (1 - config.half_similarity() ** hashes) ** buckets == pytest.approx(0.5)


@pytest.mark.parametrize(("ranks", "tasks"), [(1, 1), (4, 1), (5, 2), (56, 14), (1000, 14)])
def test_bucket_tasks_grow_with_the_ranks_up_to_one_per_bucket(ranks, tasks):
    assert dict(dedup.Config(ranks=ranks).phases())["buckets"] == tasks


@pytest.mark.parametrize("field", ["num_buckets", "hashes_per_bucket", "ngram_words", "ranks"])
def test_a_field_below_one_is_refused(field):
    with pytest.raises(ConfigError, match=f"{field}=0: 1 or more"):
        dedup.Config(**{field: 0})
