"""MinHash deduplication with datatrove's four blocks, one function for each phase.

Two documents whose sets of word n-grams have Jaccard similarity s meet in a bucket with probability
1 - (1 - s^r)^b, for b buckets of r hashes each (Leskovec, Rajaraman, Ullman: Mining of Massive
Datasets, 3rd ed., section 3.4.2). Documents that meet, also through others, are one cluster, of which
one document is kept: the root of datatrove's union-find. That root follows from the numbers of rank
and document alone, since the pairs are read in a fixed order, so it does not depend on when a rank ran.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import zstandard
from datatrove.data import Document
from datatrove.pipeline.dedup.minhash import (
    MinhashConfig,
    MinhashDedupBuckets,
    MinhashDedupCluster,
    MinhashDedupFilter,
)
from datatrove.pipeline.readers import JsonlReader
from datatrove.pipeline.writers import JsonlWriter
from datatrove.utils.hashing import HashConfig

from llmhpc.dedup.signature import Signatures
from llmhpc.errors import ArtifactError

HASH_SEED = 1  # of the hash functions: fixed, so that signatures of different runs can be compared
RECORDS_AT_ONCE = 1000  # signatures read from one file at a time; the block's default is 5
SHARDS = "*.jsonl.zst"
Progress = Callable[[float, float, str], None]  # done, total, unit


@dataclass(kw_only=True, slots=True)
class Minhash:
    """What the phases share: the parameters, and the folder ``work`` that they hand over in."""

    num_buckets: int
    hashes_per_bucket: int
    ngram_words: int
    language: str  # decides how words are split
    work: Path

    def parameters(self) -> MinhashConfig:
        """The same in datatrove's words."""
        return MinhashConfig(
            n_grams=self.ngram_words,
            num_buckets=self.num_buckets,
            hashes_per_bucket=self.hashes_per_bucket,
            seed=HASH_SEED,
            hash_config=HashConfig(precision=64, hash_fc="xxhash"),
        )


def write_signatures(
    setup: Minhash, documents: Path, out: Path, rank: int, ranks: int, progress: Progress
) -> int:
    """Sign the documents of the shards ``rank::ranks`` into ``out``/signatures; returns how many."""
    block = Signatures(str(out / "signatures"), setup.parameters(), setup.language)
    block.run(_read(documents, rank, ranks, progress), rank, ranks)
    return int(block.stats["total"].total)


def find_pairs(setup: Minhash, out: Path, bucket: int) -> int:
    """Write the pairs of documents that meet in ``bucket`` to ``out``/pairs; returns how many."""
    block = MinhashDedupBuckets(
        str(setup.work / "signatures"),
        str(out / "pairs"),
        config=setup.parameters(),
        lines_to_buffer=RECORDS_AT_ONCE,
    )
    block.run(None, bucket, setup.num_buckets)
    return int(block.stats["total_matches"].total)


def write_clusters(setup: Minhash, out: Path, ranks: int) -> dict[str, int]:
    """Join the pairs of all buckets to clusters and write, per rank, what is to go to ``out``/clusters.

    Returns the number of clusters of two or more, and of documents to remove. Memory grows with the
    number of documents that have a duplicate.
    """
    folder = out / "clusters"
    block = MinhashDedupCluster(
        str(setup.work / "pairs"),
        str(folder),
        config=setup.parameters(),
        save_cluster_id=True,
        save_cluster_size=True,
        lines_to_buffer=RECORDS_AT_ONCE,
    )
    block.run(None, 0, 1)
    folder.mkdir(parents=True, exist_ok=True)
    for rank in range(
        ranks
    ):  # without a .remove file the filter would leave out a rank's cluster ids
        for suffix in ("remove", "clusters", "sizes"):
            (folder / f"{rank:06d}.{suffix}").touch()
    return {
        "clusters": int(block.stats["clusters"].total),
        "to_remove": int(block.stats["to_remove"].total),
    }


def keep_one_of_each(
    setup: Minhash, documents: Path, out: Path, rank: int, ranks: int, progress: Progress
) -> dict[str, int]:
    """Write kept documents to ``out``/documents and the others to ``out``/removed/duplicate.

    Each gets ``minhash_cluster_id`` (-1: it has no duplicate) and ``minhash_cluster_size`` in its metadata.
    """
    block = MinhashDedupFilter(
        str(setup.work / "clusters"),
        exclusion_writer=_writer(out / "removed" / "duplicate"),
        load_cluster_ids=True,
        load_cluster_sizes=True,
        lines_to_buffer=RECORDS_AT_ONCE,
    )
    kept = block.run(_read(documents, rank, ranks, progress), rank, ranks)
    for _ in _writer(out / "documents").run(kept, rank, ranks):
        pass
    return {
        "documents_in": int(block.stats["total"].total),
        "documents": int(block.stats["forwarded"].total),
        "duplicates": int(block.stats["dropped"].total),
    }


def _read(folder: Path, rank: int, ranks: int, progress: Progress) -> Iterator[Document]:
    """The documents of the shards ``rank::ranks`` of ``folder``, in the same order for every phase.

    Raises ArtifactError if the reader gave fewer than there are lines: it passes over what it cannot parse.
    """
    shards = sorted(folder.glob(SHARDS))
    if not shards:
        raise ArtifactError(f"{folder}: no {SHARDS} there, nothing to read")
    total = sum(map(_count_lines, shards[rank::ranks]))  # costs little beside splitting words
    reader = JsonlReader(str(folder), glob_pattern=SHARDS, recursive=False, add_file_path=False)
    seen = 0
    for seen, document in enumerate(reader.run(None, rank, ranks), 1):
        yield document
        progress(seen, total, "documents")
    if seen != total:
        raise ArtifactError(
            f"{folder}: {total} lines but {seen} documents in the shards of rank {rank}"
        )


def _count_lines(shard: Path) -> int:
    lines = 0
    with shard.open("rb") as file:
        stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
        while block := stream.read(1 << 20):
            lines += block.count(b"\n")
    return lines


def _writer(folder: Path) -> JsonlWriter:
    return JsonlWriter(str(folder), output_filename="${rank}.jsonl.zst", compression="zstd")
