"""Training straight from shuffled text: documents are tokenized as they are read, in the order of their shards.

The tokens are those that the stage tokenize would write, one after the other; a step reads the next
sequences of them. Every process tokenizes all of a step's text, whatever its part of it.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.tokens.encode import batches_of, is_heldout, open_encoder
from llmhpc.tokens.shards import numbered_lines, parse, shard_paths
from llmhpc.train.data import Rows
from llmhpc.train.positions import in_documents
from llmhpc.train.settings import Schedule


@dataclass(frozen=True, kw_only=True, slots=True)
class Position:
    """Where the next sequence begins."""

    epoch: int = 0
    shard: int = 0  # of the shards in order
    line: int = 0  # of the document in its shard
    offset: int = 0  # tokens of the document


class TextStream:
    """Batches of the documents that are not held out; the steps are to be asked for one after the other.

    Raises ArtifactError if the documents do not fill one sequence.
    """

    def __init__(
        self, documents: Path, tokenizer: Path, schedule: Schedule, heldout_fraction: float
    ) -> None:
        self.shards, self.heldout_fraction = shard_paths(documents), heldout_fraction
        self.encoder = open_encoder(tokenizer, "auto")
        self.length, self.schedule = schedule.sequence_length, schedule
        self.left_out: list[list[int]] = []  # [step, sequences that are not read behind it]
        self._document_end = self.encoder.eos_id if schedule.document_mask else None
        self.go_to({})

    def position(self) -> dict[str, Any]:
        """What ``go_to`` needs to go on from here."""
        return asdict(self._at)

    def sources_of(self, step: int, *, dp_rank: int, dp: int, micro_batch: int) -> list[list[str]]:
        """There is only one."""
        return []

    def padding(self) -> float:
        """No sequence is padded."""
        return 0.0

    def go_to(self, position: dict[str, Any]) -> None:
        """Go on from a position; shards before it are not read."""
        self._at = Position(**position)
        self._documents = self._read()
        self._held: deque[tuple[int, int, np.ndarray]] = deque()  # shard, line, tokens
        self._count = -self._at.offset  # tokens held behind the position

    def micro_batches(
        self, step: int, *, dp_rank: int, dp: int, micro_batch: int
    ) -> Iterator[Rows]:
        """This replica's share of the next step."""
        for after, sequences in self.left_out:
            for _ in range(sequences if after == step - 1 else 0):
                self._sequence()
        rows = np.stack([self._sequence() for _ in range(self.schedule.batch(step))])
        weights = np.ones((micro_batch, self.length), dtype=np.float32)
        for part in rows.reshape(-1, dp, micro_batch, self.length + 1)[:, dp_rank]:
            yield Rows(part, weights, in_documents(part, self._document_end))

    def _sequence(self) -> np.ndarray:
        """int64 (length + 1,): the next sequence and the token behind it, where the one after it begins."""
        while self._count <= self.length:
            if (document := next(self._documents, None)) is not None:
                self._held.append(document)
                self._count += len(document[2])
            elif (self._at.shard, self._at.line, self._at.offset) == (0, 0, 0):
                raise ArtifactError(
                    f"{self.shards[0].parent}: {self._count} training tokens are no sequence of {self.length}"
                )
            else:  # what is left does not fill a sequence
                self.go_to({"epoch": self._at.epoch + 1})
        row, filled, offset = np.empty(self.length + 1, dtype=np.int64), 0, self._at.offset
        for shard, line, tokens in self._held:
            piece = tokens[offset : offset + self.length + 1 - filled]
            row[filled : filled + len(piece)] = piece
            if filled + len(piece) > self.length:
                here = offset + self.length - filled
                self._at = Position(epoch=self._at.epoch, shard=shard, line=line, offset=here)
                break
            filled, offset = filled + len(piece), 0
        while self._held[0][:2] != (self._at.shard, self._at.line):
            self._held.popleft()
        self._count -= self.length
        return row

    def _read(self) -> Iterator[tuple[int, int, np.ndarray]]:
        """The documents from the position to the end of the epoch."""
        numbers = {shard: number for number, shard in enumerate(self.shards)}
        lines = numbered_lines(self.shards[self._at.shard :])
        first = self._at
        wanted = (
            (shard, line, text)
            for shard, line, text in lines
            if numbers[shard] > first.shard or line >= first.line
        )
        for batch in batches_of(wanted):
            kept, texts = [], []
            for shard, line, text in batch:
                document = parse(text)
                if not is_heldout(document["id"], self.heldout_fraction):
                    kept.append((numbers[shard], line))
                    texts.append(document["text"])
            for place, tokens in zip(kept, self.encoder.encode(texts), strict=True):
                yield *place, tokens
