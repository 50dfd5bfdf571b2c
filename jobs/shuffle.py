"""Stage shuffle: the documents in an order that the seed alone decides."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import NOT_IDENTITY, Footprint, Phase, Stage, at_least
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """Settings of shuffle."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}
    seeded: ClassVar[bool] = True

    kind: str = "shuffle"
    memory_mb: int = field(default=256, metadata=NOT_IDENTITY)  # for sorting; beyond it, on disk

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "memory_mb", 1)

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

    memory = cfg.memory_mb << 20
    if task.phase == "scatter":
        shards = shard_paths(inputs["documents"])[task.rank :: task.ranks]
        frames = out / "work" / f"{task.rank:05d}.frames"
        return {"scattered": scatter(shards, frames, cfg.ranks, task.seed, task.progress, memory)}
    scattered = [task.home / "work" / f"{rank:05d}.frames" for rank in range(cfg.ranks)]
    shard = out / "documents" / f"{task.rank:05d}.jsonl.zst"
    documents = gather(scattered, task.rank, shard, task.progress, memory)
    return {"documents_in": documents, "documents": documents}
