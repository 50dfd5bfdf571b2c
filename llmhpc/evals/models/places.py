"""Where a process of an evaluation stands: which share of the work is its own, and with whom it holds a model."""

import contextlib
import functools
import json
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch.distributed as dist

from llmhpc import processes
from llmhpc.config import Resources
from llmhpc.errors import PeerLostError

MEETING_MIN = 30
LEAVING_S = 60
POLL_S, MAX_POLL_S = 0.05, 1.0
FAILED = "failed"  # the key under which one says that it will not come
Work = TypeVar("Work")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Place:
    """One of ``tp`` processes that hold a model together, which is one of ``dp`` copies of it.

    The processes of a copy are neighbours, on one node where that has room, and do the same work at the same
    time; copies know nothing of each other but when they ``meet``.
    """

    dp_rank: int
    dp: int
    tp_rank: int
    tp: int
    process: processes.Place

    @property
    def writes(self) -> bool:
        """True for the one process of a copy that writes down what all of them found."""
        return self.tp_rank == 0

    @property
    def first(self) -> bool:
        """True for one process of all."""
        return self.process.rank == 0

    def share(self, work: Sequence[Work]) -> Sequence[Work]:
        """This copy's part of what is to be done; if it is sorted by size, parts are about equal."""
        return work[self.dp_rank :: self.dp]

    def meet(self, what: str) -> None:
        """Wait until all processes of the step have come to ``what``: words that are used only once.

        Raises:
            PeerLostError: one of them has failed or was killed, or did not come within half an hour.
        """
        store, size = self._store, self.process.size
        if store.add(f"{what}: came", 1) == size:
            store.set(f"{what}: all", "")
        begun = time.monotonic()
        while not store.check([f"{what}: all"]):
            lost = self._lost()
            if lost and not store.check([f"{what}: all"]):  # else it has left since
                raise PeerLostError(lost)
            waited = time.monotonic() - begun
            if waited > 60 * MEETING_MIN:
                came = store.add(f"{what}: came", 0)
                raise PeerLostError(
                    f"process {self.process.rank} waited {MEETING_MIN} min for all to come to: "
                    f"{what}; {came} of {size} came"
                )
            time.sleep(min(max(POLL_S, waited / 10), MAX_POLL_S))
        gone, until = store.add(f"{what}: gone", 1), time.monotonic() + LEAVING_S
        # process 0 has the store: the others leave first
        while self.process.rank == 0 and gone < size and time.monotonic() < until:
            time.sleep(POLL_S)
            gone = store.add(f"{what}: gone", 0)

    def told(self, what: str, find: Callable[[], Found]) -> Found:
        """What the first process finds, which is something that JSON can hold, in all of them: files can be seen late."""
        if self.first:
            self._store.set(what, json.dumps(find()))
        self.meet(f"{what} are known")
        return json.loads(self._store.get(what))

    def fail(self, error: BaseException) -> None:
        """Tell those who wait for this process that it will not come."""
        with contextlib.suppress(RuntimeError):  # the store is gone if process 0 is
            self._store.set(FAILED, f"process {self.process.rank} failed: {error}")

    def introduce(self) -> None:
        """Tell the others which process of which machine this is, so that its neighbours see whether it lives."""
        self._store.set(f"process {self.process.rank}", f"{os.getpid()} {_machine()}")

    def _lost(self) -> str:
        """Which process has failed, or was killed on this machine, in words; "" if none.

        What is killed on another machine is the scheduler's to see: it ends all processes of a job then.
        """
        store = self._store
        if store.check([FAILED]):
            return store.get(FAILED).decode()
        for key in (f"process {rank}" for rank in range(self.process.size)):
            if store.check([key]):
                number, machine = store.get(key).decode().split(" ", 1)
                if machine == _machine() and not _lives(int(number)):
                    return f"{key} was killed"
        return ""

    @property
    def _store(self) -> dist.Store:
        assert self.process.store is not None  # of a process that has joined
        return self.process.store


@functools.cache
def _machine() -> str:
    """Where a process number means the same process."""
    return f"{socket.gethostname()} {Path('/proc/self/ns/pid').readlink()}"


def _lives(number: int) -> bool:
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True


@contextmanager
def taken(dp: int, tp: int, resources: Resources, folder: Path) -> Iterator[Place]:
    """The place of this process among the ``dp * tp`` that a launcher started; all leave it together.

    Args:
        dp: copies of the model.
        tp: processes that hold one.
        resources: of the step.
        folder: one that all processes see; they find each other there.

    Raises:
        StageError: this process was not started as one of so many.
        PeerLostError: another process has failed or is gone.
    """
    with processes.joined(dp * tp, resources, folder, worlds=dp) as process:
        dp_rank, tp_rank = divmod(process.rank, tp)
        place = Place(dp_rank, dp, tp_rank, tp, process)
        place.introduce()
        try:
            yield place
        except BaseException as error:
            place.fail(error)
            raise
        place.meet("the end")
