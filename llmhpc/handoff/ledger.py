"""What a run has cost: the sum of its attempts, useful against lost, without asking an accounting database."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llmhpc.files import read_json
from llmhpc.handoff import artifact, attempts

HOUR_S = 3600


class Cost(NamedTuple):
    """Hours of cores and of GPUs that were held; ``lost`` is the part whose work had to be done again."""

    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    lost_cpu_hours: float = 0.0
    lost_gpu_hours: float = 0.0
    attempts: float = 0
    failed: float = 0  # attempts that did not come to their end

    def __add__(self, other: "Cost") -> "Cost":  # type: ignore[override]
        return Cost(*(a + b for a, b in zip(self, other, strict=True)))

    @property
    def goodput(self) -> float:
        """The share of held time that was useful; GPUs count where there are any."""
        held, lost = (
            (self.gpu_hours, self.lost_gpu_hours)
            if self.gpu_hours
            else (self.cpu_hours, self.lost_cpu_hours)
        )
        return 1 - lost / held if held else 1.0


def of_records(records: Iterable[attempts.Record]) -> Cost:
    """What attempts cost. One that goes on counts until now, and nothing of it is lost yet.

    What a failed attempt did before it last saved is useful: the next one goes on from there.
    """
    total = Cost()
    for record in records:
        end = record.get("end", time.time())
        hours = (end - record["begin"]) / HOUR_S
        bad = record.get("cause", attempts.DONE) != attempts.DONE
        lost = (end - record.get("saved", record["begin"])) / HOUR_S if bad else 0.0
        cpus, gpus = record["cpus"], record["gpus"]
        total += Cost(hours * cpus, hours * gpus, lost * cpus, lost * gpus, 1, bad)
    return total


def of_step(home: Path) -> Cost:
    """What a step has cost until now."""
    manifest = read_json(home / artifact.MANIFEST)
    return Cost(**manifest["cost"]) if manifest else of_records(attempts.every(home))
