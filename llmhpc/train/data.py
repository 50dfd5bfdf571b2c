"""Which tokens each step reads: a function of seed and step alone, whatever the layout and the restarts."""

from collections.abc import Iterator
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import packing
from llmhpc.train.settings import Packing, Schedule


class Rows(NamedTuple):
    """A micro-batch of B sequences of S tokens: int64 (B, S + 1), and float32 (B, S) the weights of the labels.

    Labels are the tokens from the second on. Weights are 0 where a label does not count, and 1 on average over a
    global batch: the mean of loss times weight is the mean loss of the labels that count.
    """

    tokens: np.ndarray
    weights: np.ndarray


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, windows: int) -> np.ndarray:
    """The order of the windows in one pass over the data: a permutation of 0 .. windows - 1."""
    return np.random.default_rng([seed, epoch]).permutation(windows)


class Windows:
    """Sequences that go on where the last one ended, from document to document; each one's last label is the next
    one's first token. Rows as those of ``packing.Sequences``."""

    def __init__(self, tokens: TokenFiles, length: int) -> None:
        self.tokens, self.length = tokens, length

    def __len__(self) -> int:
        return max(0, self.tokens.tokens - 1) // self.length

    def drawn(self, seed: int, epoch: int, index: int) -> int:
        """The window that is read at ``index`` of an epoch."""
        return int(epoch_order(seed, epoch, len(self))[index])

    def read_before(self, seed: int, epoch: int, index: int, numbers: np.ndarray) -> np.ndarray:
        """Which of some windows are read before ``index`` of an epoch."""
        return np.isin(numbers, epoch_order(seed, epoch, len(self))[:index])

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


class Batches:
    """Sequences of the training tokens, drawn without replacement; every epoch has its own order.

    Raises ArtifactError if the tokens do not fill one global batch.
    """

    def __init__(self, tokens: TokenFiles, schedule: Schedule, seed: int) -> None:
        self.seed, self.length, self.size = seed, schedule.sequence_length, schedule.global_batch
        kind = packing.Sequences if schedule.packing is Packing.documents else Windows
        self.sequences = kind(tokens, self.length)
        self.count = len(self.sequences)
        if self.count < self.size:
            raise ArtifactError(
                f"{tokens.tokens} training tokens are {self.count} sequences of "
                f"{self.length}: one step needs {self.size} (schedule.global_batch)"
            )

    def position(self) -> dict[str, Any]:
        """Nothing has to be known to go on but the step."""
        return {}

    def go_to(self, position: dict[str, Any]) -> None:
        """Nothing to do: see ``position``."""

    def padding(self) -> float:
        """The share of all sequences that is padding."""
        held = self.sequences.tokens.tokens
        return max(0.0, 1 - held / (self.count * self.length))

    def numbers(self, step: int) -> list[int]:
        """The sequences of step ``step`` (from 1), ``global_batch`` of them."""
        first = (step - 1) * self.size
        return [
            self.sequences.drawn(self.seed, *divmod(index, self.count))
            for index in range(first, first + self.size)
        ]

    def micro_batches(
        self, step: int, *, dp_rank: int, dp: int, micro_batch: int
    ) -> Iterator[Rows]:
        """This replica's share of the step."""
        numbers = self.numbers(step)
        labels = sum(map(self.sequences.labels, numbers))
        scale = np.float32(self.size * self.length / max(1, labels))
        share = np.array(numbers).reshape(-1, dp, micro_batch)[:, dp_rank]
        for part in share.tolist():
            tokens, weights = zip(*map(self.sequences.row, part), strict=True)
            yield Rows(np.stack(tokens), scale * np.stack(weights))

    def times_read(self, start: int, stop: int, steps: int) -> tuple[int, int]:
        """How often ``steps`` steps read the tokens of one document, ``start`` to ``stop``, at least and at most.

        Tokens behind the last whole window are never read.
        """
        holding = self.sequences.of_tokens(start, stop)
        epochs, rest = divmod(steps * self.size, self.count)
        begun = self.sequences.read_before(self.seed, epochs, rest, holding)
        times = np.where(holding < self.count, epochs + begun, 0)
        return int(times.min()), int(times.max())
