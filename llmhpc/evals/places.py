"""Where a process of an evaluation stands: which share of the work is its own, and with whom it holds a model."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist

from llmhpc import processes
from llmhpc.config import Resources
from llmhpc.errors import PeerLostError

MEETING_MIN = 30
POLL_S = 0.05
Work = TypeVar("Work")


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
    def device(self) -> torch.device:
        """What this process computes on."""
        return self.process.device

    @property
    def writes(self) -> bool:
        """True for the one process of a copy that writes down what all of them found."""
        return self.tp_rank == 0

    def share(self, work: Sequence[Work]) -> Sequence[Work]:
        """This copy's part of what is to be done; if it is sorted by size, parts are about equal."""
        return work[self.dp_rank :: self.dp]

    def meet(self, what: str) -> None:
        """Wait until all processes of the step have come to ``what``: words that are used only once.

        Raises:
            PeerLostError: one of them did not come within half an hour.
        """
        store, size = self.process.store, self.process.size
        assert store is not None  # of a process that has joined
        if store.add(f"{what}: came", 1) == size:
            store.set(f"{what}: all", "")
        try:
            store.wait([f"{what}: all"], timedelta(minutes=MEETING_MIN))
        except dist.DistStoreError as error:
            came = store.add(f"{what}: came", 0)
            raise PeerLostError(
                f"process {self.process.rank} waited {MEETING_MIN} min for all to come to: {what}; "
                f"{came} of {size} came"
            ) from error
        gone = store.add(f"{what}: gone", 1)
        while self.process.rank == 0 and gone < size:  # it has the store: the others leave first
            time.sleep(POLL_S)
            gone = store.add(f"{what}: gone", 0)


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
        PeerLostError: another process is gone.
    """
    with processes.joined(dp * tp, resources, folder, worlds=dp) as process:
        dp_rank, tp_rank = divmod(process.rank, tp)
        place = Place(dp_rank, dp, tp_rank, tp, process)
        yield place
        place.meet("the end")
