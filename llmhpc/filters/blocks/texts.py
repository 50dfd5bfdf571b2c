"""Documents of a step that has text already, as datatrove documents."""

from collections.abc import Iterator
from pathlib import Path

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep
from datatrove.utils.typeshelper import StatHints

from llmhpc.tokens.shards import Progress, parse, read_lines, shard_paths


class Texts(PipelineStep):
    """Reads the shards of this rank: ``rank``, ``rank + ranks``, ... in sorted order."""

    name = "texts"

    def __init__(self, step: Path, progress: Progress) -> None:
        super().__init__()
        self.shards = shard_paths(step)
        self.progress = progress
        self.bytes_read = 0  # of text

    def run(
        self, data: Iterator[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """The documents. Raises ArtifactError if a shard is damaged or cut short."""
        for line in read_lines(self.shards[rank::world_size], self.progress):
            document = parse(line)
            self.stat_update(StatHints.total)
            self.bytes_read += len(document["text"].encode())
            yield Document(
                text=document["text"], id=document["id"], metadata=document.get("metadata", {})
            )
