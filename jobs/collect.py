"""Collect HTML pages from a source and write them as WARC files, one per rank."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhpc.config import Footprint, Stage
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Reading, Source, pages_of
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """A source of pages, dealt to ``ranks`` files."""

    kind: str = "collect"
    source: Source = field(default_factory=Source)

    def before_launch(self) -> None:
        """Raise ConfigError if the source's input is not there."""
        self.source.before_launch(self.ranks)

    def will_write(self, input_bytes: int) -> Footprint:
        """As much as the source has, at most: what is no page is left out."""
        try:
            size = self.source.expected_bytes()
        except ConfigError:  # before_launch says that it is not there
            size = 0
        return Footprint(size, self.ranks)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write warc/<rank>.warc.gz. Raises StageError if this rank's share has no usable page."""
    from llmhpc.sources.archive import write

    cfg.source.before_launch(cfg.ranks)
    reading = Reading(rank=task.rank, ranks=task.ranks, progress=task.progress)
    counts = write(pages_of(cfg.source, reading), out / "warc" / f"{task.rank:05d}.warc.gz")
    skipped = dict(sorted(reading.skipped.items()))
    if not counts["pages"]:
        raise StageError(
            f"source={cfg.source.kind}: no usable page in rank {task.rank}; passed over: {skipped}"
        )
    return counts | {"skipped": skipped}
