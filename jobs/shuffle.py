"""Stage shuffle: the documents in an order that the seed alone decides."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Phase, Stage
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of shuffle. ``ranks`` bounds memory: a rank holds 1/ranks of all documents, uncompressed."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}
    seeded: ClassVar[bool] = True

    kind: str = "shuffle"

    def phases(self) -> list[Phase]:
        """Every rank cuts its shards into ranges of keys, then every rank sorts one range."""
        return [Phase("scatter", self.ranks), Phase("gather", self.ranks)]

    def will_write(self, input_bytes: int) -> Footprint:
        """The documents twice: scattered, then in order."""
        return Footprint(2 * input_bytes, 2 * self.ranks)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/{rank}.jsonl.zst; in order of rank they are one shuffled row of documents."""
    from llmhpc.tokens.shards import shard_paths
    from llmhpc.tokens.shuffle import gather, scatter

    if task.phase == "scatter":
        shards = shard_paths(inputs["documents"])[task.rank :: task.ranks]
        frames = out / "work" / f"{task.rank:05d}.frames"
        return {"scattered": scatter(shards, frames, cfg.ranks, task.seed, task.progress)}
    scattered = [task.home / "work" / f"{rank:05d}.frames" for rank in range(cfg.ranks)]
    shard = out / "documents" / f"{task.rank:05d}.jsonl.zst"
    documents = gather(scattered, task.rank, shard, task.progress)
    return {"documents_in": documents, "documents": documents}
