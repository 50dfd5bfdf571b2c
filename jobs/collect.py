"""Collect pages from a source as WARC files, or documents from one that has text, one file per rank."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhpc.config import Footprint, Stage
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Reading, Source, Text, pages_of, texts_of
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """A source of pages or texts, dealt to ``ranks`` files."""

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
        return Footprint(size, 2 * self.ranks)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write warc/<rank>.warc.gz or documents/<rank>.jsonl.zst, and to skipped/ the places that were passed over.

    Raises StageError if this rank's share has nothing that can be used.
    """
    import orjson

    from llmhpc.sources.archive import write
    from llmhpc.tokens.shards import line_writer

    cfg.source.before_launch(cfg.ranks)
    with line_writer(out / "skipped" / f"{task.rank:05d}.jsonl.zst") as note:
        reading = Reading(
            rank=task.rank,
            ranks=task.ranks,
            progress=task.progress,
            note=lambda place: note(orjson.dumps(place)),
        )
        if cfg.source.has_text():
            shard = out / "documents" / f"{task.rank:05d}.jsonl.zst"
            counts = write_texts(texts_of(cfg.source, reading), shard)
        else:
            counts = write(pages_of(cfg.source, reading), out / "warc" / f"{task.rank:05d}.warc.gz")
    skipped = dict(sorted(reading.skipped.items()))
    if not any(counts.values()) and not cfg.source.selective:
        what = "document" if cfg.source.has_text() else "page"
        raise StageError(
            f"source={cfg.source.kind}: no usable {what} in rank {task.rank}; passed over: {skipped}"
        )
    return counts | {"skipped": skipped}


def write_texts(texts: Iterable[Text], shard: Path) -> dict[str, int]:
    """Write a line for each document; returns how many they are and how many bytes of text, in UTF-8."""
    import orjson

    from llmhpc.tokens.shards import line_writer

    counts = {"documents": 0, "text_bytes": 0}
    with line_writer(shard) as write_line:
        for text in texts:
            write_line(orjson.dumps(text.document(), default=str))
            counts["documents"] += 1
            counts["text_bytes"] += len(text.text.encode())
    return counts
