"""What became of each fault, from the records of the run: attempts, manifests, launches, and Slurm's of its jobs."""

from collections import Counter
from pathlib import Path
from typing import NamedTuple

from benchmarks.chaos.faults import Hit
from benchmarks.chaos.pipeline import complete, gave_up
from benchmarks.devcluster import Job
from llmhpc.handoff import artifact, attempts, ledger, runs

FULL_DISK_S = 10.0  # what ends later than this behind a full disk did not end from it
NOTHING, REQUEUED = "nothing needed", "same job requeued"

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

    def judge(self, hits: list[Hit]) -> tuple[list[Finding], list[str]]:
        """A finding for each fault; and the attempts that ended badly and that no fault met."""
        outcomes = [[self._outcome(job, hit) for job in hit.victims] for hit in hits]
        # an attempt may have been met by several faults: the last one has its loss
        owner = {id(o.record): n for n, found in enumerate(outcomes) for o in found if o.record}
        found = [
            self._finding(hit, outcomes[n], [i for i, m in owner.items() if m == n])
            for n, hit in enumerate(hits)
        ]
        unmet = [
            f"{Path(home).name} rank {record['rank']} job {record['job']} {record.get('cause')}"
            for home, records in self.attempts.items()
            for record in records
            if not _well(record) and id(record) not in owner
        ]
        return found, unmet

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
            hit, f"{names[0]}{more}" + ("" if hit.target in names[0] else f", {hit.target}"),
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
        mine = [r for r in history if r["job"] == job.key and _end(r) >= hit.begin]
        before = [r for r in mine if r["begin"] <= hit.begin]
        # one without a process was noted for a task that died before it could record anything
        met = before[-1:] or [r for r in mine if r["begin"] <= hit.end or not r["pid"]]
        own = self._own(job)
        if (
            not met and mine
        ):  # it was about to begin, or was put back into the queue before it could
            if own.start > hit.end and mine[0]["begin"] >= own.start:
                return _Outcome("not begun", REQUEUED, mine[0]["begin"])
            met = mine
        if not met:
            return _Outcome("over" if any(r["job"] == job.key for r in history) else "not begun")
        record, rank = met[0], f"rank {met[0]['rank']}"
        late = hit.kind == "full_disk" and _end(record) > hit.end + FULL_DISK_S
        if _well(record) or late:
            return _Outcome("unharmed", rank=rank)
        same = [r for r in history if all(r[key] == record[key] for key in ("phase", "rank"))]
        later = [r for r in same if r["begin"] > record["begin"] and r["pid"]]
        if not later:  # its gate has let it pass: the files were in place when it ended
            return _Outcome(record.get("cause", "open"), rank=rank, record=record)
        action = REQUEUED if later[0]["job"] == job.key else self._by(job.home, later[0]["job"])
        good = any(map(_well, later))
        return _Outcome(record["cause"], action, later[0]["begin"], good, rank, record)

    def _of_guard(self, job: Job, hit: Hit) -> _Outcome:
        own = self._own(job)
        if own.state == "COMPLETED":
            requeued = own.start > hit.end
            return _Outcome("requeued", REQUEUED, own.start) if requeued else _Outcome("unharmed")
        ended = own.state.lower()
        behind = [
            other
            for other in self.jobs
            if other.home == job.home and other.key != job.key and other.start >= int(hit.begin)
            if not other.is_rescue and other.nodes
        ]
        if not behind:  # the step is whole without: what it had to do was done
            return _Outcome(ended)
        again = min(behind, key=lambda other: other.start)
        return _Outcome(ended, self._by(job.home, again.key), max(again.start, hit.begin))

    def _own(self, job: Job) -> Job:
        """The job as Slurm saw it in the end."""
        return next((other for other in self.jobs if other.key == job.key), job)

    def _by(self, home: str, key: str) -> str:
        """Who submitted a job: gates and rescues that came to their end, ticks and launchers of that moment."""
        at = _modified(_log(home, key) / f"{key}_submitted.pkl")
        guards = [
            (job.name.rpartition(".")[2], job.start, job.end + 1)
            for job in self.jobs
            # a gate that finds something wanting fails, with a result that says so; one that was killed has none
            if job.is_guard and job.state == ("COMPLETED" if job.is_rescue else "FAILED")
            if job.is_rescue or _modified(_log(job.home, job.key) / f"{job.key}_0_result.pkl")
        ]
        who = {name for name, begin, end in guards + self.helpers if begin <= at <= end}
        return f"submitted again by {' or '.join(sorted(who)) or 'somebody'}"


def _log(home: str, key: str) -> Path:
    return Path(home, artifact.LOGS, key)


def _modified(path: Path) -> float:
    return path.stat().st_mtime if path.exists() else 0.0


def _name(job: Job, rank: str) -> str:
    return " ".join(filter(None, [job.name, rank, f"job {job.key}", f"on {job.nodes}"]))


def _end(record: attempts.Record) -> float:
    """The end, or the latest that it may have been: Slurm's are in whole seconds."""
    end = record.get("end", float("inf"))
    return end + 1 if end % 1 == 0 else end


def _well(record: attempts.Record) -> bool:
    return record.get("cause") == attempts.DONE
