"""Scoring and writing of which every batch is done once, by one copy of the model, and kept from then on.

A process appends what it found to a file of its own, so that nobody can spoil another's lines; what a kill left half
written at the end of one is passed over. Batches are those that a whole run makes, so that one that was killed in
between ends with the same numbers, to the last bit.
"""

import os
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import orjson

from llmhpc.errors import ArtifactError
from llmhpc.evals.items import Writing
from llmhpc.evals.models.places import Place
from llmhpc.evals.models.scoring import Pair, Score, Scorer
from llmhpc.evals.models.writing import Row, Writer

SEEN_WITHIN_S = 60
Progress = Callable[[float], None]  # the fraction done


class Batch(Protocol):
    """A unit of work."""

    @property
    def hash(self) -> str:
        """Tells it from every other one."""

    @property
    def positions(self) -> int:
        """How much work it is."""


class Records:
    """What was found for the batches of one checkpoint, by all processes and in all starts.

    Args:
        folder: of the files.
        place: of this process. All processes of a step must make this object, and call ``fill``, in the same order.
    """

    def __init__(self, folder: Path, place: Place) -> None:
        self.folder, self.place = folder, place
        folder.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO | None = None
        self._calls = 0
        # what all copies know to be done: they deal out the rest, and processes that hold one model must agree
        self.known = set(self._read())
        place.meet(f"{folder.parent.name}: records are read")

    def fill(
        self, batches: Sequence[Batch], do: Callable[[Any], list[Any]], progress: Progress
    ) -> dict[str, list[Any]]:
        """What ``do`` gives for each batch, by the batch's hash: done here, by another copy, or before."""
        missing = [batch for batch in batches if batch.hash not in self.known]
        mine = self.place.share(missing)
        total, done = sum(batch.positions for batch in mine), 0
        for batch in mine:
            found = do(batch)
            if self.place.writes:
                self._append(batch.hash, found)
            done += batch.positions
            progress(done / total)
        self._calls += 1
        self.place.meet(f"{self.folder.parent.name}: batches {self._calls} are done")
        wanted = {batch.hash for batch in batches}
        self.known |= wanted
        return self._seen(wanted)

    def _seen(self, wanted: set[str]) -> dict[str, list[Any]]:
        """What all copies found; on a shared file system the files of another node can be seen late."""
        deadline = time.monotonic() + SEEN_WITHIN_S
        while missing := wanted - (found := self._read()).keys():
            if time.monotonic() > deadline:
                raise ArtifactError(
                    f"{self.folder}: {len(missing)} batches of other processes are not to be seen there"
                    f" after {SEEN_WITHIN_S} s"
                )
            time.sleep(1)
        return {key: values for key, values in found.items() if key in wanted}

    def close(self) -> None:
        """Close the file of this process."""
        if self._file is not None:
            self._file.close()

    def _append(self, key: str, found: list[Any]) -> None:
        if self._file is None:
            who = f"{time.time_ns():020d}-{socket.gethostname()}-{os.getpid()}"
            self._file = (self.folder / f"{who}.jsonl").open("xb")
        self._file.write(orjson.dumps([key, found]) + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _read(self) -> dict[str, list[Any]]:
        found: dict[str, list[Any]] = {}
        for path in sorted(self.folder.glob("*.jsonl")):
            for line in path.read_bytes().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    key, values = orjson.loads(line)
                    found.setdefault(key, values)
        return found


class RecordedScorer(Scorer):
    """A scorer whose batches are kept."""

    def __init__(self, records: Records, model: Any, max_length: int, batch_tokens: int) -> None:
        super().__init__(model, max_length, batch_tokens)
        self.records = records

    def score(self, pairs: Sequence[Pair], progress: Progress = lambda done: None) -> list[Score]:
        """A score for every pair, in the order given; see ``Scorer.score``."""
        batches = self.plan(pairs)
        found = self.records.fill(batches, self._values, progress)
        scores = {
            pair: Score(*values)
            for batch in batches
            for pair, values in zip(batch.pairs, found[batch.hash], strict=True)
        }
        return self.collect(pairs, scores)

    def _values(self, batch: Any) -> list[Any]:
        scores = self.score_batch(batch)
        return [[scores[pair].logprob, scores[pair].greedy] for pair in batch.pairs]


class RecordedWriter(Writer):
    """A writer whose batches are kept."""

    def __init__(self, records: Records, checkpoint: Any, batch_tokens: int) -> None:
        super().__init__(checkpoint, batch_tokens)
        self.records = records

    def write(
        self, prompts: Sequence[str], writing: Writing, progress: Progress = lambda done: None
    ) -> list[list[str]]:
        """Texts for each prompt, in the order given; see ``Writer.write``."""
        batches = self.plan(prompts, writing)
        found = self.records.fill(batches, self._values, progress)
        texts: dict[Row, str] = {
            row: text
            for batch in batches
            for row, text in zip(batch.rows, found[batch.hash], strict=True)
        }
        return self.collect(prompts, writing, texts)

    def _values(self, batch: Any) -> list[Any]:
        texts = self.write_batch(batch)
        return [texts[row] for row in batch.rows]
