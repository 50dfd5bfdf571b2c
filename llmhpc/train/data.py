"""Which tokens each step reads: a function of seed and step alone, whatever the layout and the restarts."""

from collections.abc import Iterator
from functools import lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import packing
from llmhpc.train.positions import in_documents
from llmhpc.train.settings import Packing, Schedule

ONLY = "tokens"  # the name of the source where there is one


class Rows(NamedTuple):
    """A micro-batch of B sequences of S tokens: int64 (B, S + 1), and float32 (B, S) the weights of the labels.

    With a document mask also int64 (B, S), the place of each token in its document (``positions.in_documents``).

    Labels are the tokens from the second on. Weights are 0 where a label does not count, and 1 on average over a
    global batch: the mean of loss times weight is the mean loss of the labels that count.
    """

    tokens: np.ndarray
    weights: np.ndarray
    positions: np.ndarray | None = None


class Windows:
    """Sequences that go on where the last one ended, from document to document; each one's last label is the next
    one's first token. Rows as those of ``packing.Sequences``."""

    def __init__(self, tokens: TokenFiles, length: int) -> None:
        self.tokens, self.length = tokens, length
        self.order = lru_cache(maxsize=2)(self._order)

    def __len__(self) -> int:
        return max(0, self.tokens.tokens - 1) // self.length

    def drawn(self, seed: int, epoch: int, index: int) -> int:
        """The window that is read at ``index`` of an epoch."""
        return int(self.order(seed, epoch)[index])

    def index_in(self, seed: int, epoch: int, numbers: np.ndarray) -> np.ndarray:
        """At which index of an epoch each of some windows (rising numbers) is read; one that is not whole: behind all."""
        order = self.order(seed, epoch)
        found = np.flatnonzero(np.isin(order, numbers))
        index = np.full(len(numbers), len(self), dtype=np.int64)
        index[np.searchsorted(numbers, order[found])] = found
        return index

    def row(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """int64 (length + 1,) and float32 (length,)."""
        tokens = self.tokens.window(number * self.length, self.length + 1)
        return tokens, np.ones(self.length, dtype=np.float32)

    def labels(self, number: int) -> int:
        """How many labels of a window count: all."""
        return self.length

    def of_tokens(self, start: int, stop: int) -> np.ndarray:
        """The windows that hold tokens ``start`` to ``stop``; the last of the split is not whole."""
        return np.arange(start // self.length, (stop - 1) // self.length + 1)

    def read_in(self, seed: int, epoch: int, index: int) -> np.ndarray:
        """bool (windows,): which are read before ``index`` of an epoch."""
        read = np.zeros(len(self), dtype=bool)
        read[self.order(seed, epoch)[:index]] = True
        return read

    def coverage(self, marked: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """int64 (documents,) twice: how many of the windows that hold some of a document are marked, and how many do."""
        ends = self.tokens.ends().astype(np.int64)
        first = np.concatenate([[0], ends[:-1]]) // self.length
        stop = (ends - 1) // self.length + 1
        tail = np.zeros(max(0, int(stop.max(initial=0)) - len(marked)), dtype=bool)
        before = np.concatenate([[0], np.cumsum(np.concatenate([marked, tail]))])
        yield before[stop] - before[first], stop - first

    def _order(self, seed: int, epoch: int) -> np.ndarray:
        """A permutation of the windows."""
        return np.random.default_rng([seed, epoch]).permutation(len(self))


class Source:
    """The sequences of one set of tokens, drawn without replacement; every epoch has its own order."""

    def __init__(self, tokens: TokenFiles, schedule: Schedule, seed: int) -> None:
        self.tokens, self.seed = tokens, seed
        kind = packing.Sequences if schedule.packing is Packing.documents else Windows
        self.sequences: packing.Sequences | Windows = kind(tokens, schedule.sequence_length)
        self.count = len(self.sequences)

    def number(self, index: int) -> int:
        """The sequence that is drawn at ``index``, counted from 0 over all epochs."""
        return self.sequences.drawn(self.seed, *divmod(index, self.count))

    def times(self, numbers: np.ndarray, drawn: int) -> np.ndarray:
        """How often each of some sequences (of one document) is among the first ``drawn``.

        What lies behind the last whole window is never read.
        """
        epochs, rest = divmod(drawn, self.count)
        begun = self.sequences.index_in(self.seed, epochs, numbers) < rest
        return np.where(numbers < self.count, epochs + begun, 0)


class Batches:
    """Sequences of the training tokens, drawn without replacement; every epoch has its own order.

    Raises ArtifactError if the tokens do not fill one global batch.
    """

    def __init__(self, tokens: TokenFiles, schedule: Schedule, seed: int) -> None:
        source = Source(tokens, schedule, seed)
        if source.count < schedule.global_batch:
            raise ArtifactError(
                f"{tokens.tokens} training tokens are {source.count} sequences of "
                f"{schedule.sequence_length}: one step needs {schedule.global_batch} (schedule.global_batch)"
            )
        self._take(schedule, {ONLY: source}, tokens.eos_id)
        self.sequences, self.count = source.sequences, source.count

    def _take(self, schedule: Schedule, sources: dict[str, Source], eos_id: int) -> None:
        self.length, self.schedule = schedule.sequence_length, schedule
        self.sources = sources
        self.left_out: list[list[int]] = []  # [step, sequences that are not read behind it]
        self._document_end = eos_id if schedule.document_mask else None

    def position(self) -> dict[str, Any]:
        """Nothing has to be known to go on but the step."""
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to do: see ``position``."""

    def padding(self) -> float:
        """The share of all sequences that is padding."""
        held = sum(source.tokens.tokens for source in self.sources.values())
        count = sum(source.count for source in self.sources.values())
        return max(0.0, 1 - held / (count * self.length))

    def first(self, step: int) -> int:
        """The first sequence of step ``step`` (from 1), of all that there are in a training, from 0."""
        left_out = sum(sequences for after, sequences in self.left_out if after < step)
        return self.schedule.sequences_before(step) + left_out

    def stretches(self, steps: int) -> list[tuple[int, int]]:
        """From which to which sequence ``steps`` steps read: all in one, if none are left out."""
        cuts = sorted({after for after, _ in self.left_out if 0 < after < steps})
        return [
            (self.first(begun + 1), self.first(end) + self.schedule.batch(end))
            for begun, end in pairwise([0, *cuts, steps])
            if end
        ]

    def drawn(self, step: int) -> list[tuple[Source, int]]:
        """The sequences of step ``step`` (from 1), as many as its batch has, each with its source."""
        first = self.first(step)
        return [
            (self.sources[name], self.sources[name].number(index))
            for name, index in self._of(first, first + self.schedule.batch(step))
        ]

    def _of(self, first: int, stop: int) -> list[tuple[str, int]]:
        """For the sequences ``first`` to ``stop`` the source of each, and how many it gave before."""
        return [(ONLY, index) for index in range(first, stop)]

    def before(self, number: int) -> dict[str, int]:
        """How many of the sequences before ``number`` each source gives."""
        return {ONLY: number}

    def drawn_by(self, steps: int) -> dict[str, int]:
        """How many sequences ``steps`` steps read from each source."""
        both = [(self.before(begin), self.before(end)) for begin, end in self.stretches(steps)]
        return {
            name: sum(after[name] - before[name] for before, after in both) for name in self.sources
        }

    def times_read(self, role: str, start: int, stop: int, steps: int) -> tuple[int, int]:
        """How often ``steps`` steps read the tokens of one document of a source, at least and at most."""
        source = self.sources[role]
        holding = source.sequences.of_tokens(start, stop)
        times = np.zeros(len(holding), dtype=np.int64)
        for begin, end in self.stretches(steps):
            times += source.times(holding, self.before(end)[role])
            times -= source.times(holding, self.before(begin)[role])
        return int(times.min()), int(times.max())

    def sources_of(self, step: int, *, dp_rank: int, dp: int, micro_batch: int) -> list[list[str]]:
        """The source of each sequence of ``micro_batches``, micro-batch by micro-batch; none where there is only one."""
        return []

    def _share(self, count: int, dp_rank: int, dp: int, micro_batch: int) -> list[list[int]]:
        """The places in a step of ``count`` sequences that are a replica's, micro-batch by micro-batch."""
        return np.arange(count).reshape(-1, dp, micro_batch)[:, dp_rank].tolist()

    def numbers(self, step: int) -> list[int]:
        """The sequences of step ``step``, each by its number in its source."""
        return [number for _, number in self.drawn(step)]

    def micro_batches(
        self, step: int, *, dp_rank: int, dp: int, micro_batch: int
    ) -> Iterator[Rows]:
        """This replica's share of the step."""
        drawn = self.drawn(step)
        labels = sum(source.sequences.labels(number) for source, number in drawn)
        scale = np.float32(len(drawn) * self.length / max(1, labels))
        for part in self._share(len(drawn), dp_rank, dp, micro_batch):
            sequences = (drawn[place] for place in part)
            rows = (source.sequences.row(number) for source, number in sequences)
            tokens, weights = map(np.stack, zip(*rows, strict=True))
            yield Rows(tokens, scale * weights, in_documents(tokens, self._document_end))
