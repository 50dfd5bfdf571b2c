"""What a job knows about its piece of the work: phase, rank, seed, directory, and how to say how far it is."""

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from llmhpc.errors import StageError
from llmhpc.files import write_json

PROGRESS_EVERY_S = 0.5
# How somebody ends a job; a crash of the child's own is none of these.
FROM_OUTSIDE = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGKILL)


@dataclass(kw_only=True)
class Task:
    """Rank ``rank`` of ``ranks`` of one phase of a step.

    ``home`` is the step's directory: read there what earlier phases made (``home / "work"`` is thrown away
    when the step is sealed). A stage writes to ``out``, never to ``home``, unless it is ``in_place``; only what
    must outlive a killed start goes straight to ``home / "work"``, under a name that no other start uses.
    """

    phase: str
    rank: int
    ranks: int
    seed: int
    home: Path
    process: int = 0  # of a multi-process step: global rank of this process
    attempt: Path | None = None  # the record of this start of the task; process 0 has one
    # notes the error that this start ends with, when the process cannot return from what it does
    finish: Callable[[BaseException], None] = field(default=lambda error: None, repr=False)
    _last: float = field(default=0.0, repr=False)

    def progress(self, done: float, total: float, unit: str, note: str = "") -> None:
        """Say how far this task is; cheap enough to call for every document."""
        now = time.time()
        if self.process == 0 and (now - self._last >= PROGRESS_EVERY_S or done >= total):
            self._last = now
            where = self.home / "progress" / f"{self.phase}-{self.rank:05d}.json"
            write_json(
                where, {"done": done, "total": total, "unit": unit, "note": note, "time": now}
            )

    def saved(self) -> None:
        """Say that nothing done until now is lost, whatever happens to this process."""
        if self.process == 0:
            where = self.home / "progress" / f"{self.phase}-{self.rank:05d}.saved.json"
            write_json(where, {"time": time.time()})

    def superseded(self) -> bool:
        """True if this task was started again, as when Slurm gave this node up: the newer start has the files."""
        if self.attempt is None:
            return False
        stem, number = self.attempt.stem.rsplit("-", 1)
        return self.attempt.with_name(f"{stem}-{int(number) + 1:03d}.json").exists()


def check_child(exit_status: int | None) -> None:
    """Raise StageError if a child process was killed from outside.

    A scheduler signals every process of a job: what the child had in hand is not bad, and to drop it would
    make the result depend on when the job was cancelled.
    """
    if exit_status is not None and -exit_status in FROM_OUTSIDE:
        name = signal.Signals(-exit_status).name
        raise StageError(
            f"a child process was killed from outside ({name}): this rank has to run again"
        )
