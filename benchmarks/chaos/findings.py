"""What became of each fault, from the records of the run: attempts, manifests, launches, and Slurm's of its jobs."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.chaos.faults import Hit
from benchmarks.chaos.pipeline import complete, gave_up
from benchmarks.devcluster import Job
from llmhpc.handoff import artifact, attempts, ledger, runs

FULL_DISK_S = 10.0  # what ends later than this behind a full disk did not end from it
NOTHING = "nothing needed"

Helper = tuple[str, float, float]  # who might have submitted something, from when to when


class Finding(NamedTuple):
    """A fault and what became of it. ``seconds``: until what it ended ran again; None if it ended nothing."""

    hit: Hit
    victims: str
    ended: str
    action: str
    seconds: float | None
    lost_s: float  # of a CPU
    recovered: bool


class _Outcome(NamedTuple):
    """What became of one job that a fault met."""

    ended: str
    action: str = NOTHING
    again: float = 0.0  # when the work ran or was done again; 0 if it was never interrupted
    good: bool = True  # it was done in the end
    rank: str = ""
    record: attempts.Record | None = None  # of the attempt, if it did not end well


class Findings:
    """The findings of a run that is over. ``different``: the steps that are not as they should be."""

    def __init__(
        self, root: Path, jobs: list[Job], helpers: list[Helper], different: dict[str, list[str]]
    ) -> None:
        homes = {home for path in runs.all_of(root) for home in runs.homes(path)}
        self.attempts = {str(home): attempts.every(home) for home in homes}
        self.jobs, self.helpers, self.different = jobs, helpers, different
        self.whole = complete(root) and not different
        self.stops = gave_up(root)

    @property
    def cost(self) -> ledger.Cost:
        """The ledger of the run."""
        return ledger.of_records(r for records in self.attempts.values() for r in records)

    def judge(self, hits: list[Hit]) -> tuple[list[Finding], Counter[str]]:
        """A finding for each fault; and the causes of attempts that ended badly and that no fault met."""
        outcomes = [[self._outcome(job, hit) for job in hit.victims] for hit in hits]
        # an attempt may have been met by several faults: the last one has its loss
        owner = {id(o.record): n for n, found in enumerate(outcomes) for o in found if o.record}
        found = [
            self._finding(hit, outcomes[n], [i for i, m in owner.items() if m == n])
            for n, hit in enumerate(hits)
        ]
        bad = [r for records in self.attempts.values() for r in records if not _well(r)]
        return found, Counter(r.get("cause", "open") for r in bad if id(r) not in owner)

    def _finding(self, hit: Hit, outcomes: list[_Outcome], owned: list[int]) -> Finding:
        if not hit.victims:
            return Finding(hit, hit.target, "", "no work hit", None, 0.0, self.whole)
        again = max(outcome.again for outcome in outcomes)
        homes = [Path(job.home) for job in hit.victims]
        recovered = (
            all(artifact.sealed(home) and home.name not in self.different for home in homes)
            and all(outcome.good for outcome in outcomes)
            and not any(hit.begin < stop <= again for stop in self.stops)
        )
        lost = [o.record for o in outcomes if o.record and id(o.record) in owned]
        names = [_name(job, o.rank) for job, o in zip(hit.victims, outcomes, strict=True)]
        more = f" and {len(names) - 1} more" if len(names) > 1 else ""
        actions = {o.action for o in outcomes}
        return Finding(
            hit, f"{names[0]}{more}, {hit.target}",
            ", ".join(f"{n} {word}" for word, n in Counter(o.ended for o in outcomes).items()),
            ", ".join(sorted(actions - {NOTHING})) or NOTHING,
            max(0.0, again - hit.begin) if again else None,
            ledger.of_records(lost).lost_cpu_hours * ledger.HOUR_S,
            recovered,
        )  # fmt: skip

    def _outcome(self, job: Job, hit: Hit) -> _Outcome:
        return self._of_guard(job, hit) if job.is_guard else self._of_task(job, hit)

    def _of_task(self, job: Job, hit: Hit) -> _Outcome:
        history = self.attempts.get(job.home, [])
        # an end that Slurm gave is in whole seconds
        mine = [r for r in history if r["job"] == job.key and _end(r) + 1 >= hit.begin]
        before = [r for r in mine if r["begin"] <= hit.begin]
        # one without a process was noted for a task that died before it could record anything
        met = before[-1:] or [r for r in mine if r["begin"] <= hit.end or not r["pid"]]
        if not met:
            begun = mine[0]["begin"] if mine else 0.0
            return _Outcome("no attempt", "same job requeued" if mine else NOTHING, begun)
        record, rank = met[0], f"rank {met[0]['rank']}"
        late = hit.kind == "full_disk" and _end(record) > hit.end + FULL_DISK_S
        if _well(record) or late:
            return _Outcome("unharmed", rank=rank)
        same = [r for r in history if all(r[key] == record[key] for key in ("phase", "rank"))]
        later = [r for r in same if r["begin"] > record["begin"] and r["pid"]]
        if not later:  # its gate has let it pass: the files were in place when it ended
            return _Outcome(record.get("cause", "open"), rank=rank, record=record)
        requeued = later[0]["job"] == job.key
        action = "same job requeued" if requeued else self._by(job.home, later[0]["job"])
        good = any(map(_well, later))
        return _Outcome(record["cause"], action, later[0]["begin"], good, rank, record)

    def _of_guard(self, job: Job, hit: Hit) -> _Outcome:
        own = next((other for other in self.jobs if other.key == job.key), job)
        if own.state == "COMPLETED":
            requeued = own.start > hit.end
            return (
                _Outcome("requeued", "same job requeued", own.start)
                if requeued
                else _Outcome("unharmed")
            )
        gates = [
            other
            for other in self.jobs
            if other.home == job.home and other.key != job.key and other.start >= int(hit.begin)
            if other.name == job.name or (job.name.endswith(".rescue") and other.is_guard)
        ]
        ended = own.state.lower()
        if not gates:  # the step is whole without: what it had to do was done
            return _Outcome(ended)
        again = min(gates, key=lambda other: other.start)
        return _Outcome(
            ended, self._by(job.home, again.key, but=job.key), max(again.start, hit.begin)
        )

    def _by(self, home: str, key: str, but: str = "") -> str:
        """Who submitted a job: gates that found something wanting, rescues, ticks and launchers of that time."""
        path = Path(home, artifact.LOGS, key, f"{key}_submitted.pkl")
        at = path.stat().st_mtime if path.exists() else 0.0
        guards = [
            (job.name.rpartition(".")[2], job.start, job.end + 1)
            for job in self.jobs
            if job.is_guard
            and job.key != but
            and (job.name.endswith(".rescue") or job.state != "COMPLETED")
        ]
        who = {name for name, begin, end in guards + self.helpers if begin <= at <= end}
        return f"submitted again by {' or '.join(sorted(who)) or 'somebody'}"


def _name(job: Job, rank: str) -> str:
    return " ".join(filter(None, [job.name, rank, f"job {job.key}", f"on {job.nodes}"]))


def _end(record: attempts.Record) -> float:
    return record.get("end", float("inf"))


def _well(record: attempts.Record) -> bool:
    return record.get("cause") == attempts.DONE
