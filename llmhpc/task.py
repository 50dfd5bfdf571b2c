"""What a job knows about its piece of the work: phase, rank, seed, directory, and how to say how far it is."""

import time
from dataclasses import dataclass, field
from pathlib import Path

from llmhpc.files import write_json

PROGRESS_EVERY_S = 0.5


@dataclass(kw_only=True)
class Task:
    """Rank ``rank`` of ``ranks`` of one phase of a step.

    ``home`` is the step's directory: read there what earlier phases made (``home / "work"`` is thrown away
    when the step is sealed). A stage writes to ``out``, never to ``home``, unless it is ``in_place``.
    """

    phase: str
    rank: int
    ranks: int
    seed: int
    home: Path
    process: int = 0  # of a multi-process step: global rank of this process
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
