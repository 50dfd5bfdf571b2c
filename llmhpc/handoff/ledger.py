"""What a run has cost: the sum of its attempts, useful against lost, without asking an accounting database."""

import time
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from llmhpc import scheduler
from llmhpc.config import Budget
from llmhpc.files import read_json
from llmhpc.handoff import artifact, attempts

HOUR_S = 3600


class Cost(NamedTuple):
    """Hours of cores and of GPUs that were held; ``lost`` is the part whose work had to be done again.

    Of the tasks of steps alone: the small jobs behind them, gates and rescues, are not in it.
    """

    cpu_hours: float = 0.0
    gpu_hours: float = 0.0
    lost_cpu_hours: float = 0.0
    lost_gpu_hours: float = 0.0
    attempts: float = 0
    failed: float = 0  # attempts that did not come to their end
    waiting_hours: float = (
        0.0  # in which tasks were in Slurm's queue and none of the step was at work
    )

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
    """What the attempts of one step cost. One that goes on counts until now, and nothing of it is lost yet.

    What a failed attempt did before it last saved is useful: the next one goes on from there.
    """
    total = Cost()
    at_work, queued = [], []
    for record in records:
        end = record.get("end", time.time())
        hours = (end - record["begin"]) / HOUR_S
        bad = record.get("cause", attempts.DONE) != attempts.DONE
        lost = (end - record.get("saved", record["begin"])) / HOUR_S if bad else 0.0
        cpus, gpus = record["cpus"], record["gpus"]
        total += Cost(hours * cpus, hours * gpus, lost * cpus, lost * gpus, 1, bad)
        at_work.append((record["begin"], end))
        if ready := record.get("ready"):
            queued.append((ready, record["begin"]))
    waiting = _length(at_work + queued) - _length(at_work)
    return total._replace(waiting_hours=waiting / HOUR_S)


def _length(spans: list[tuple[float, float]]) -> float:
    """Time that at least one of the spans (begin, end) covers."""
    total = reached = 0.0
    for begin, end in sorted(spans):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total


def of_step(home: Path) -> Cost:
    """What a step has cost until now."""
    manifest = read_json(home / artifact.MANIFEST)
    return Cost(**manifest["cost"]) if manifest else of_records(attempts.every(home))


def per_billion(cost: Cost, tokens: float) -> dict[str, float] | None:
    """CPU-hours and GPU-hours for a billion tokens; None for a step that makes or reads none."""
    if not tokens:
        return None
    scale = 1e9 / tokens
    return {"cpu_hours": scale * cost.cpu_hours, "gpu_hours": scale * cost.gpu_hours}


def of_steps(homes: Iterable[Path]) -> Cost:
    """What several steps have cost until now."""
    return sum(map(of_step, homes), Cost())


def overdrawn(budget: Budget, homes: Iterable[Path]) -> str:
    """What the steps have cost beyond the budget, in words; "" while there is some left."""
    if not (budget.cpu_hours or budget.gpu_hours):
        return ""
    spent = of_steps(homes)
    said = [
        f"cluster.budget.{name}={limit:g}: {used:,.2f} are used; a larger budget, or 0 for none"
        for name in ("cpu_hours", "gpu_hours")
        if (limit := getattr(budget, name)) and (used := getattr(spent, name)) >= limit
    ]
    return "; ".join(said)


def by_slurm(homes: Iterable[Path]) -> float | None:
    """CPU-hours of the same tasks by Slurm's own accounting, to check the ledger; None where there is none."""
    jobs = {record["job"] for home in homes for record in attempts.every(home)} - {""}
    seconds = scheduler.cpu_seconds(jobs)
    return None if seconds is None else seconds / HOUR_S
