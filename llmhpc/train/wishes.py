"""What one process of a training would like all of them to do after a step: save, save and stop, or stop.

The wishes meet in a collective of every step, so that all processes act at the same one; the largest wins.
"""

import math
import signal
import threading
import time
from enum import IntEnum
from types import FrameType
from typing import Any

from typing_extensions import Self

from llmhpc.task import Task

FIRST_SAVE_S = 600  # until the time that a checkpoint takes has been measured
LOOK_EVERY_S = 5  # for a newer start of the same task


class Wish(IntEnum):
    """In the order of precedence."""

    GO_ON = 0
    SAVE = 1
    SAVE_AND_STOP = 2
    STOP = 3


class Wishes:
    """The wishes of this process. As a context manager it listens to signals.

    SIGUSR2 is Slurm's warning ahead of the time limit, or ahead of preemption where the site sends one. SIGTERM is
    preemption without a warning, or scancel: what is left is the grace time, or KillWait.
    """

    def __init__(self, task: Task, save_every_s: float, limit_s: float, mtbf_s: float) -> None:
        self.task, self.limit_s, self.mtbf_s = task, limit_s, mtbf_s
        self.fixed_s = save_every_s
        self.begun = self.last_save = self.last_look = time.monotonic()
        self.signal = 0
        self.save_s = 0.0  # how long a checkpoint took
        self.before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGUSR2, signal.SIGTERM):
                self.before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)

    def _heard(self, number: int, frame: FrameType | None) -> None:
        self.signal = number

    def wish(self) -> Wish:
        """Of this process, now. Process 0 keeps the time and looks for a newer start of the task."""
        now = time.monotonic()
        if self.task.process == 0 and now - self.last_look >= LOOK_EVERY_S:
            self.last_look = now
            if self.task.superseded():
                return Wish.STOP
        if self.signal:
            return Wish.SAVE_AND_STOP
        due = self.task.process == 0 and now - self.last_save >= self.interval_s()
        return Wish.SAVE if due else Wish.GO_ON

    def saved(self, seconds: float) -> None:
        """Note that a checkpoint is whole, which took ``seconds``."""
        self.save_s, self.last_save = seconds, time.monotonic()

    def interval_s(self) -> float:
        """Seconds between checkpoints: as set, or sqrt(2 * seconds of a checkpoint * seconds between failures).

        J. W. Young, A first order approximation to the optimum checkpoint interval (CACM 17, 1974).
        """
        if self.fixed_s:
            return self.fixed_s
        return math.sqrt(2 * self.save_s * self.mtbf_s) if self.save_s else FIRST_SAVE_S

    def cause(self) -> str:
        """Why to stop: a warning near the time limit is the limit's, any other is preemption's."""
        near = time.monotonic() - self.begun >= 0.5 * self.limit_s
        return "timeout" if self.signal == signal.SIGUSR2 and near else "preempted"
