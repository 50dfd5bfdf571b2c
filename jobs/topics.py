"""Stage topics: clusters of documents by their words, for the rule topic."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage, at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.task import Task

FLOAT_BYTES = 4


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """k-means of tf-idf vectors (Dhillon and Modha 2001); topics.json says what is in each cluster.

    ``ranks`` has no use.
    """

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}

    kind: str = "topics"
    clusters: int = 64
    documents: int = 50_000  # at most, picked by a hash of their ids; held in memory
    features: int = 65_536  # that words are hashed to
    model_seed: int = 0  # not the run's: data does not change with the seed of training

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "clusters", 2)
        at_least(self, "documents", self.clusters)
        at_least(self, "features", 2)
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, clusters are found in one task")

    def will_write(self, input_bytes: int) -> Footprint:
        """The centres."""
        return Footprint(FLOAT_BYTES * self.features * (self.clusters + 1), 2)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write topics/clusters.bin and topics/topics.json."""
    import heapq

    from llmhpc.files import write_json
    from llmhpc.filters.models import clusters
    from llmhpc.tokens.shards import hash64, parse, read_lines, shard_paths

    lines = read_lines(shard_paths(inputs["documents"]), task.progress)
    documents = (parse(line) for line in lines)
    picked = heapq.nsmallest(
        cfg.documents, ((hash64(d["id"], b"topics"), d["text"]) for d in documents)
    )
    if len(picked) < cfg.clusters:
        raise StageError(
            f"clusters={cfg.clusters}: there are {len(picked)} documents; as many or fewer"
        )
    task.progress(0, 1, "models", f"{cfg.clusters} clusters of {len(picked)} documents")
    found, sizes = clusters.learn(
        [text for _, text in picked], cfg.clusters, cfg.features, cfg.model_seed
    )
    folder = out / "topics"
    folder.mkdir()
    clusters.save(found, folder / "clusters.bin")
    topics = [
        {"cluster": n, "documents": int(size), "terms": terms}
        for n, (size, terms) in enumerate(zip(sizes, found.terms, strict=True))
    ]
    write_json(folder / "topics.json", {"topics": topics})
    return {"documents": len(picked), "clusters": cfg.clusters}
