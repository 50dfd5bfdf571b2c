"""Which tokens each step reads: a function of seed and step alone, whatever the layout and the restarts."""

from collections.abc import Iterator
from functools import lru_cache

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.settings import Schedule


@lru_cache(maxsize=2)
def epoch_order(seed: int, epoch: int, windows: int) -> np.ndarray:
    """The order of the windows in one pass over the data: a permutation of 0 .. windows - 1."""
    return np.random.default_rng([seed, epoch]).permutation(windows)


class Batches:
    """Windows of the training tokens, drawn without replacement; every epoch has its own order.

    A window is ``sequence_length`` tokens and the one after them, which the next window starts with.
    Raises ArtifactError if the tokens do not fill one global batch.
    """

    def __init__(self, tokens: TokenFiles, schedule: Schedule, seed: int) -> None:
        self.tokens, self.seed = tokens, seed
        self.length, self.size = schedule.sequence_length, schedule.global_batch
        self.windows = (tokens.tokens - 1) // self.length
        if self.windows < self.size:
            raise ArtifactError(
                f"{tokens.tokens} training tokens are {max(0, self.windows)} sequences of "
                f"{self.length}: one step needs {self.size} (schedule.global_batch)"
            )

    def window_numbers(self, step: int) -> list[int]:
        """The windows of step ``step`` (from 1), ``global_batch`` of them."""
        first = (step - 1) * self.size
        return [
            int(epoch_order(self.seed, index // self.windows, self.windows)[index % self.windows])
            for index in range(first, first + self.size)
        ]

    def micro_batches(
        self, step: int, *, dp_rank: int, dp: int, micro_batch: int
    ) -> Iterator[np.ndarray]:
        """This replica's share of the step: int64 arrays (micro_batch, sequence_length + 1)."""
        share = np.array(self.window_numbers(step)).reshape(-1, dp, micro_batch)[:, dp_rank]
        for numbers in share.tolist():
            yield np.stack([self.tokens.window(n * self.length, self.length + 1) for n in numbers])

    def times_read(self, start: int, stop: int, steps: int) -> tuple[int, int]:
        """How often ``steps`` steps read the tokens from ``start`` to ``stop``, at least and at most.

        Tokens behind the last whole window are never read.
        """
        windows = np.arange(start // self.length, (stop - 1) // self.length + 1)
        epochs, rest = divmod(steps * self.size, self.windows)
        begun = epoch_order(self.seed, epochs, self.windows)[:rest]
        times = np.where(windows < self.windows, epochs + np.isin(windows, begun), 0)
        return int(times.min()), int(times.max())
