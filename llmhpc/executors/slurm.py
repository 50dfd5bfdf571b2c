"""Steps as Slurm jobs: for each phase its tasks and a gate behind them, dependencies in between, a rescue at the end.

Nothing stays alive: a gate that finds ranks missing calls ``resume``, which submits them again; what waited for it is
withdrawn and submitted behind the new gate. The rescue runs if a gate itself is killed, and does the same.
"""

import logging
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from submitit.core.utils import FailedJobError, FailedSubmissionError

from llmhpc import scheduler
from llmhpc import step as node
from llmhpc.config import Cluster, Phase
from llmhpc.errors import ArtifactError, StageError
from llmhpc.executors import snapshot
from llmhpc.executors.jobs import Site, Submitter
from llmhpc.executors.recovery import Decision, decide, left_out
from llmhpc.files import only_one, read_json, write_json
from llmhpc.handoff import artifact, attempts, claim, ledger, runs
from llmhpc.planning.plan import Step

DEFAULT_ARRAY_SIZE = 1001  # of Slurm

log = logging.getLogger(__name__)


@dataclass
class Submission:
    """What a call of ``submit`` did: step directory -> its job ids, new or joined; and why some have none."""

    jobs: dict[Path, list[str]] = field(default_factory=dict)
    new: set[Path] = field(default_factory=set)
    stopped: dict[Path, str] = field(default_factory=dict)

    def why(self) -> list[str]:
        """A line for each step that must not be started again."""
        return [f"{home.name}: {why}" for home, why in self.stopped.items() if why]


def submit(
    cluster: Cluster, steps: list[Step], launch: Path, *, by_person: bool = True
) -> Submission:
    """Submit what is not whole and not on its way, and return.

    Args:
        cluster: how to submit, and how often to start again.
        steps: each after what it needs.
        launch: the record of the launch, which gates and rescues read.
        by_person: False where it is the suite that goes on: then failures of before count.

    Raises:
        StageError: Slurm refuses a job or does not answer, or a launcher without Slurm holds a step.
    """
    done = Submission()
    last: dict[Path, str] = {}  # step -> the job that seals it
    with only_one(launch.parent / runs.SUBMIT_LOCK):
        queue = _queue(steps)
        site = _site(cluster, launch)
        for step in steps:
            if artifact.sealed(step.out):
                continue
            if any(need in done.stopped for need in step.inputs.values()):
                _withdraw(step.out)
                done.stopped[step.out] = ""  # what it needs has stopped
                continue
            after = sorted({last[need] for need in step.inputs.values() if need in last})
            jobs = _alive_jobs(step, after, queue)
            if jobs is None:
                jobs = _make(site, step, after, by_person, done)
                if jobs is None:
                    continue
                done.new.add(step.out)
            done.jobs[step.out] = claim.job_ids(jobs)
            last[step.out] = list(jobs["gates"].values())[-1]
    return done


def gate_job(home: str, phase: str, launch: str) -> None:
    """The gate behind a phase: pass, seal, or start the missing ranks again.

    Raises ArtifactError when the phase is not whole, so that nothing starts behind this gate; ``resume`` has
    submitted what is to be done about it, with another gate.
    """
    try:
        node.gate(home, phase)
    except ArtifactError:
        resume(Path(launch))
        raise
    if all(map(artifact.sealed, runs.homes(Path(launch)))):
        runs.end(Path(launch), "done")
    else:
        _stop_if_overdrawn(Path(launch))


def resume(launch: Path) -> Submission:
    """Submit again what a launch still lacks and may be started again. For gates, rescues and ticks."""
    record = runs.read(launch)
    if record.get("ended"):
        return Submission()
    if why := _stop_if_overdrawn(launch):
        return Submission(stopped=dict.fromkeys(runs.homes(launch)[:1], why))
    cluster, steps = runs.plan_of(record)
    submission = submit(cluster, steps, launch, by_person=False)
    if not submission.jobs:
        runs.end(launch, "failed" if submission.stopped else "done", "; ".join(submission.why()))
    return submission


def preview(launch: Path) -> list[Path]:
    """Submit a look at what a launch has so far, unless one is on its way or there is nothing new.

    Returns the steps that will show more: scores of the checkpoints of a training that goes on, and the page with
    them. Raises StageError if Slurm refuses the job.
    """
    cluster, steps = runs.plan_of(runs.read(launch))
    early = [step for step in steps if step.stage.early and not artifact.sealed(step.out)]
    if not any(node.has_news(step.out) for step in early):
        return []
    with only_one(launch.parent / runs.SUBMIT_LOCK):
        notes = [step.out / artifact.PREVIEW_JOB for step in early]
        last = {note["job"] for path in notes if (note := read_json(path))}
        if any(job.unfinished for job in scheduler.jobs(last).values()):
            return []
        site = _site(cluster, launch)
        homes = [str(step.out) for step in early]
        try:
            job = Submitter(site, early[0], [], Decision()).look(homes)
        except (FailedJobError, FailedSubmissionError) as error:
            raise _refused(early[0], error) from None
        for path in notes:
            write_json(path, {"job": job})
    return [step.out for step in early]


def _refused(step: Step, error: Exception) -> StageError:
    return StageError(f"stages.{step.name}: sbatch refused it: {' '.join(str(error).split())}")


def _stop_if_overdrawn(launch: Path) -> str:
    """End a launch whose budget is spent, and say so: tasks at work go on to their gate, what waits leaves the queue."""
    cluster, steps = runs.plan_of(runs.read(launch))
    why = ledger.overdrawn(cluster.budget, [step.out for step in steps])
    if not why:
        return ""
    with only_one(launch.parent / runs.SUBMIT_LOCK):
        runs.end(launch, "failed", why)
        queue = _queue(steps)
        others = {home for other in runs.open_ones(launch.parents[1]) for home in runs.homes(other)}
        for step in steps:
            if (jobs := read_json(step.out / artifact.JOBS)) and step.out not in others:
                _withdraw_waiting(jobs, queue)
    return why


def _withdraw_waiting(jobs: dict[str, Any], queue: claim.Queue) -> None:
    """Take tasks that have not begun off the queue, and the gates too unless a task is at work before them."""
    keys = [key for part in jobs["tasks"] for key in claim.tasks_of(part).values()]
    at_work = any(key in queue and queue[key].state in scheduler.RUNNING for key in keys)
    ids = {part["job"] for part in jobs["tasks"]} if at_work else set(claim.job_ids(jobs))
    scheduler.cancel(ids - {os.environ.get("SLURM_JOB_ID", "")}, waiting_only=True)


def _site(cluster: Cluster, launch: Path) -> Site:
    return Site(
        cluster=cluster,
        launch=launch,
        largest_array=_largest_array(launch),
        code=snapshot.take(launch.parents[1]),
        gate=gate_job,
        rescue=resume,
    )


def _largest_array(launch: Path) -> int:
    """As the site has it, from the launch's record on nodes that cannot ask."""
    record = runs.read(launch)
    if (known := record.get("max_array_size")) is None and (asked := scheduler.max_array_size()):
        write_json(launch, record | {"max_array_size": asked})
        return asked
    return known or DEFAULT_ARRAY_SIZE


def _queue(steps: list[Step]) -> claim.Queue:
    """What Slurm says of all jobs of the steps, without the job that asks."""
    ids = [job for step in steps for job in claim.job_ids(read_json(step.out / artifact.JOBS))]
    queue = scheduler.jobs(ids)
    queue.pop(os.environ.get("SLURM_JOB_ID", ""), None)
    return queue


def _alive_jobs(step: Step, after: list[str], queue: claim.Queue) -> dict[str, Any] | None:
    """The step's jobs if they will make it: they wait for the right gates, and their own next gate is there."""
    jobs = read_json(step.out / artifact.JOBS)
    # it may also wait for gates that have passed meanwhile, but not lack one that is new
    if not jobs or not jobs["submitted"] or not set(after) <= set(jobs["after"]):
        return None
    # a gate that was killed when it had sealed its step lets nothing pass
    before = [queue[job] for job in jobs["after"] if job in queue]
    if any(not job.unfinished and job.state != "COMPLETED" for job in before):
        return None
    phase = next(
        (p.name for p in step.stage.phases() if artifact.missing_ranks(step.out, p.name, p.ranks)),
        step.stage.phases()[-1].name,
    )
    gate = jobs["gates"].get(phase, "")
    return jobs if gate in queue and queue[gate].unfinished else None


def _withdraw(home: Path) -> None:
    """Take what is left of a step's jobs off the queue, also those that a killed launcher did not note."""
    jobs = read_json(home / artifact.JOBS)
    ids = set(claim.job_ids(jobs))
    if jobs and not jobs["submitted"]:
        ids |= set(scheduler.of_home(str(home), claim.user(home)))
    try:
        scheduler.cancel(ids - {os.environ.get("SLURM_JOB_ID", "")})
    except StageError as error:
        who = claim.holder(home)
        raise StageError(f"{home.name} is being made by {who}: {error}; wait for them") from None


def _make(
    site: Site, step: Step, after: list[str], by_person: bool, done: Submission
) -> dict[str, Any] | None:
    """Claim the step and submit what is missing of it; None if it must not be started again."""
    home = step.out
    old = read_json(home / artifact.CLAIM)
    jobs = read_json(home / artifact.JOBS)
    if old and not jobs and claim.alive(home):
        raise StageError(
            f"{home.name} is being made by {claim.holder(home)}: wait, or end it there"
        )
    since = None if by_person or not old else old["since"]
    rest = node.remaining(home, step.stage)
    decision = Decision()
    if jobs and rest:
        attempts.close(home, _unmarked(jobs, *rest[0]))
    _withdraw(home)
    if not by_person and rest:
        decision = decide(home, *rest[0], site.cluster.recovery, since or 0.0)
    if decision.stop:
        node.note_failure(home, rest[0][0].name, decision.stop)
        claim.release(home)
        done.stopped[home] = decision.stop
        return None
    decision = decision._replace(excluded=_excluded(site.cluster, step, decision))
    claim.hold(home, since=since)
    artifact.order(step)
    submitter = Submitter(site, step, after, decision)
    try:
        return submitter.run(rest)
    except (FailedJobError, FailedSubmissionError) as error:
        _withdraw(home)
        claim.release(home)
        raise _refused(step, error) from None


def _excluded(cluster: Cluster, step: Step, decision: Decision) -> tuple[str, ...]:
    """The nodes to leave out: Slurm takes no job that has too few left."""
    if not decision.excluded:
        return ()
    wanted = step.stage.resources.nodes
    out = left_out(decision.excluded, scheduler.nodes(cluster.partition), wanted)
    if kept := [name for name in decision.excluded if name not in out]:
        log.warning(
            "%s: %s failed often and are not left out: fewer than resources.nodes=%d would remain",
            step.out.name, ", ".join(kept), wanted,
        )  # fmt: skip
    return out


def _unmarked(jobs: dict[str, Any], phase: Phase, ranks: list[int]) -> dict[tuple[str, int], str]:
    """(phase, rank) -> Slurm's name of the last task that was to make it, of ranks that have left no mark."""
    missing = set(ranks)
    return {
        (phase.name, rank): key
        for part in jobs["tasks"]
        if part["phase"] == phase.name
        for rank, key in claim.tasks_of(part).items()
        if rank in missing
    }
