"""The batch of the next step is made in a thread while the step in hand is at work."""

import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, NamedTuple

from llmhpc.train.data import Rows


class Made(NamedTuple):
    """The micro-batches of a step, and the position behind it."""

    rows: list[Rows]
    position: dict[str, Any]


class Prefetch:
    """Takes the steps ``first`` to ``last`` from ``read`` in their order, one ahead; one step's rows are held beside
    those in hand. An error of ``read`` is raised by the step that it is of."""

    def __init__(
        self,
        read: Callable[[int], list[Rows]],
        position: Callable[[], dict[str, Any]],
        *,
        first: int,
        last: int,
    ) -> None:
        self._read, self._position_behind = read, position
        self._last = last
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self.position = position()  # behind the step in hand
        self.wait_s = 0.0  # how long the step in hand was waited for
        self._next: Future[Made] = self._thread.submit(self._make, first)

    def close(self) -> None:
        """Wait for the thread; nothing is left to it."""
        self._thread.shutdown(cancel_futures=True)

    def rows(self, step: int) -> list[Rows]:
        """The micro-batches of ``step``, one behind the last that was asked for."""
        asked = time.perf_counter()
        rows, self.position = self._next.result()
        self.wait_s = time.perf_counter() - asked
        if step < self._last:
            self._next = self._thread.submit(self._make, step + 1)
        return rows

    def _make(self, step: int) -> Made:
        return Made(self._read(step), self._position_behind())
