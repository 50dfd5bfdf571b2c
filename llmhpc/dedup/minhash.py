"""Near-duplicate documents by MinHash: word n-grams, signatures, buckets, clusters.

Two documents whose sets of word n-grams have Jaccard similarity s meet in a bucket with probability
1 - (1 - s^r)^b, for b buckets of r hashes each (Leskovec, Rajaraman, Ullman: Mining of Massive
Datasets, 3rd ed., section 3.4.2). Documents that meet, also through others, are one cluster, of which
one document is kept.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhpc.config import Phase, at_least
from llmhpc.dedup import Method
from llmhpc.dedup.language import check_language
from llmhpc.errors import ConfigError
from llmhpc.task import Task

SIGNING_RANKS_PER_BUCKET_TASK = (
    4  # keeps small runs from starting tasks of a second; 56 ranks: a task each
)


@dataclass(kw_only=True, slots=True)
class Config(Method):
    """Settings of MinHash. The defaults are FineWeb's (Penedo et al., arXiv 2406.17557)."""

    kind: str = "minhash"
    similarity: float | None = None  # wanted; the two below then follow from it and their product
    num_buckets: int = 14
    hashes_per_bucket: int = 8
    ngram_words: int = 5
    language: str = "en"  # whose rules split words

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        for name in ("num_buckets", "hashes_per_bucket", "ngram_words"):
            at_least(self, name, 1)
        if self.similarity is not None and not 0 < self.similarity < 1:
            raise ConfigError(f"similarity={self.similarity}: more than 0 and less than 1")

    def bands(self) -> tuple[int, int]:
        """Buckets and hashes of each: as set, or for as many hashes those that come nearest to ``similarity``."""
        if self.similarity is None:
            return self.num_buckets, self.hashes_per_bucket
        hashes, wanted = self.num_buckets * self.hashes_per_bucket, self.similarity
        choices = [(hashes // per_bucket, per_bucket) for per_bucket in range(1, hashes + 1)]
        return min(choices, key=lambda bands: abs(half_similarity(*bands) - wanted))

    def phases(self, ranks: int) -> list[Phase]:
        """Pairing a document in all buckets costs about a tenth of signing it, so it gets fewer tasks."""
        bucket_tasks = min(-(-ranks // SIGNING_RANKS_PER_BUCKET_TASK), self.bands()[0])
        return [
            Phase("signatures", ranks),
            Phase("buckets", bucket_tasks),
            Phase("clusters", 1),
            Phase("filter", ranks),
        ]

    def before_launch(self) -> None:
        """Raise ConfigError if the rules that split the language's words are not there."""
        check_language(self.language)


def half_similarity(buckets: int, hashes: int) -> float:
    """The Jaccard similarity of word n-grams at which two documents are found half of the time.

    Solves 1 - (1 - s^r)^b = 1/2 for b buckets of r hashes (Leskovec, Rajaraman, Ullman: Mining of
    Massive Datasets, 3rd ed., section 3.4.2, where (1/b)^(1/r) approximates the threshold): 0.69
    for 14 and 8, where the approximation says 0.72. More buckets lower it, more hashes raise it.
    """
    return (1 - 2 ** (-1 / buckets)) ** (1 / hashes)


def run(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of the phases signatures, buckets, clusters and filter."""
    from llmhpc.dedup.blocks import clusters
    from llmhpc.dedup.blocks.sketches import Sketches, write_signatures

    work, mine = task.home / "work", out / "work"
    buckets, hashes = cfg.bands()
    if task.phase == "signatures":
        return write_signatures(cfg, documents, mine, task)
    if task.phase == "buckets":
        return clusters.write_pairs(cfg, work, mine, buckets, task)
    if task.phase == "clusters":
        found = clusters.write_verdicts(cfg, work, mine)
        return found | {"half_similarity": round(half_similarity(buckets, hashes), 3)}
    sketches = Sketches(work / "sketches", buckets * hashes)
    return clusters.keep_best(cfg, documents, work, out, task, sketches.similarity)
