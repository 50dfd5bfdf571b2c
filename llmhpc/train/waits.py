"""What training waits for: the batch, other processes, and checkpoints that are being copied."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
T = TypeVar("T")


class Communication:
    """For how long in a step the work of this process stood still for numbers of others.

    That is the part which no computing hides, waiting for slower processes and the pipeline's bubble included. On a
    CPU it is the time in calls; on CUDA that between two events of the stream that computes, which are read when the
    step has been waited for.
    """

    def __init__(self, device: torch.device) -> None:
        self.on_gpu = device.type == "cuda"
        self.on = False  # whether this step is measured
        self.share = 0.0  # of the time of the last step that was measured
        self._begun = self._waited = 0.0
        self._events: list[tuple[Any, Any]] = []

    def begin(self, *, measured: bool) -> None:
        """A step begins."""
        self.on, self._begun, self._waited = measured, time.perf_counter(), 0.0
        self._events.clear()

    def end(self) -> None:
        """The step is over, and the device has been waited for."""
        if self.on:
            waited = self._waited
            for first, last in self._events:
                waited += first.elapsed_time(last) / 1000
            self.share = min(1.0, waited / (time.perf_counter() - self._begun))
        self.on = False

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """What is called in here waits for others."""
        if not self.on:
            yield
        elif self.on_gpu:
            first, last = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            first.record()
            yield
            last.record()
            self._events.append((first, last))
        else:
            begun = time.perf_counter()
            yield
            self._waited += time.perf_counter() - begun

    def timed(self, call: Callable[P, T]) -> Callable[P, T]:
        """The same call, which waits for others."""

        def waits(*args: P.args, **kwargs: P.kwargs) -> T:
            with self.waiting():
                return call(*args, **kwargs)

        return waits


class Waits:
    """Seconds since the record before: for data, of the process that waited longest in each step, and for checkpoints."""

    def __init__(self) -> None:
        self.data_s = self._stalled_s = 0.0

    def take(self, stalled_s: float) -> dict[str, float]:
        """The values of a record; ``stalled_s``: all that was waited for checkpoints until now."""
        values = {
            "data_wait_s": round(self.data_s, 4),
            "checkpoint_stall_s": round(stalled_s - self._stalled_s, 4),
        }
        self.data_s, self._stalled_s = 0.0, stalled_s
        return values
