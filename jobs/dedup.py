"""Stage dedup: near-duplicate documents found with MinHash; one of each cluster is kept."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Phase, Stage, at_least
from llmhpc.dedup.language import check_language
from llmhpc.task import Task

SIGNING_RANKS_PER_BUCKET_TASK = (
    4  # keeps small runs from starting tasks of a second; 56 ranks: a task each
)


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of dedup. The defaults are FineWeb's (Penedo et al., arXiv 2406.17557)."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}

    kind: str = "dedup"
    num_buckets: int = 14
    hashes_per_bucket: int = 8
    ngram_words: int = 5
    language: str = "en"  # whose rules split words

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        for name in ("num_buckets", "hashes_per_bucket", "ngram_words"):
            at_least(self, name, 1)

    def half_similarity(self) -> float:
        """The Jaccard similarity of word n-grams at which two documents are found half of the time.

        Solves 1 - (1 - s^r)^b = 1/2 for b buckets of r hashes (Leskovec, Rajaraman, Ullman: Mining of
        Massive Datasets, 3rd ed., section 3.4.2, where (1/b)^(1/r) approximates the threshold): 0.69
        for 14 and 8, where the approximation says 0.72. More buckets lower it, more hashes raise it.
        """
        return (1 - 2 ** (-1 / self.num_buckets)) ** (1 / self.hashes_per_bucket)

    def phases(self) -> list[Phase]:
        """Pairing a document in all buckets costs about a tenth of signing it, so it gets fewer tasks."""
        bucket_tasks = min(-(-self.ranks // SIGNING_RANKS_PER_BUCKET_TASK), self.num_buckets)
        return [
            Phase("signatures", self.ranks),
            Phase("buckets", bucket_tasks),
            Phase("clusters", 1),
            Phase("filter", self.ranks),
        ]

    def before_launch(self) -> None:
        """Raise ConfigError if the rules that split the language's words are not there."""
        check_language(self.language)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/{rank}.jsonl.zst and removed/duplicate/{rank}.jsonl.zst, in four phases."""
    from llmhpc.dedup import minhash

    setup = minhash.Minhash(
        num_buckets=cfg.num_buckets,
        hashes_per_bucket=cfg.hashes_per_bucket,
        ngram_words=cfg.ngram_words,
        language=cfg.language,
        work=task.home / "work",
    )
    documents, mine = inputs["documents"] / "documents", (task.rank, task.ranks, task.progress)
    if task.phase == "signatures":
        return {"signatures": minhash.write_signatures(setup, documents, out / "work", *mine)}
    if task.phase == "buckets":
        buckets = range(task.rank, cfg.num_buckets, task.ranks)
        pairs = 0
        for done, bucket in enumerate(buckets, 1):
            pairs += minhash.find_pairs(setup, out / "work", bucket)
            task.progress(done, len(buckets), "buckets")
        return {"pairs": pairs}
    if task.phase == "clusters":
        found = minhash.write_clusters(setup, out / "work", cfg.ranks)
        return {**found, "half_similarity": round(cfg.half_similarity(), 3)}
    return minhash.keep_one_of_each(setup, documents, out, *mine)
