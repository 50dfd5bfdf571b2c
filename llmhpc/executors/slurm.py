"""Steps as Slurm jobs: for each phase its tasks and a gate behind them, dependencies in between, a rescue at the end.

Nothing stays alive: a gate that finds ranks missing calls ``resume``, which submits them again; what waited for it is
withdrawn and submitted behind the new gate. The rescue runs if a gate itself is killed, and does the same.
"""

import itertools
import logging
import math
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from llmhpc import scheduler
from llmhpc import step as node
from llmhpc.config import Budget, Cluster, Phase
from llmhpc.errors import ArtifactError, StageError
from llmhpc.executors import environment, snapshot
from llmhpc.executors.recovery import Decision, decide, left_out
from llmhpc.files import only_one, read_json, write_json
from llmhpc.handoff import artifact, attempts, claim, ledger, runs
from llmhpc.planning.plan import Step

GATE_TIMEOUT_MIN = 60
GATE_MEM_GB = 1
MAX_LINKS = 50
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
        site = _Site(cluster, launch, _largest_array(launch), snapshot.take(launch.parents[1]))
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
        site = _Site(cluster, launch, _largest_array(launch), snapshot.take(launch.parents[1]))
        homes = [str(step.out) for step in early]
        try:
            job = _Submitter(site, early[0], [], Decision()).look(homes)
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
    site: "_Site", step: Step, after: list[str], by_person: bool, done: Submission
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
    submitter = _Submitter(site, step, after, decision)
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


@dataclass(frozen=True)
class _Site:
    cluster: Cluster
    launch: Path
    largest_array: int
    code: Path  # snapshot of the code that the jobs run


class _Submitter:
    """The jobs of one step."""

    def __init__(self, site: _Site, step: Step, after: list[str], decision: Decision) -> None:
        self.site, self.step, self.after, self.decision = site, step, after, decision
        self.script = environment.script(
            site.cluster.environment, step.stage.environment, root=step.out.parent, code=site.code
        )
        self.jobs: dict[str, Any] = {
            "submitted": False,
            "time": time.time(),
            "after": after,
            "tasks": [],
            "gates": {},
            "rescues": [],
        }

    def run(self, rest: list[tuple[Phase, list[int]]]) -> dict[str, Any]:
        """All phases in order, each behind the gate of the one before; what jobs.json holds then."""
        self._note()
        after = self.after
        for phase, ranks in rest or [(self.step.stage.phases()[-1], [])]:
            after = [self._phase(phase, ranks, after)]
        # if the step's own input never came, there is nothing to rescue
        rescue = self._executor("rescue", [*_ok(self.after), *_after("afternotok", after)])
        self.jobs["rescues"].append(rescue.submit(resume, self.site.launch).job_id)
        self.jobs["submitted"] = True
        self._note()
        return self.jobs

    def look(self, homes: list[str]) -> str:
        """The job of a look at what the steps can show so far."""
        executor = self._task_executor(Phase(artifact.PREVIEW, 1), [])
        return executor.submit(node.preview_all, homes).job_id

    def _phase(self, phase: Phase, ranks: list[int], after: list[str]) -> str:
        tasks = (
            self._links(phase, after)
            if self._is_linked(ranks)
            else self._arrays(phase, ranks, after)
        )
        # afterany: the gate looks at what is on disk. afterok also for a gate: behind an array that was
        # cancelled for want of its input, afterany alone would start it
        waits = [*_ok(after), *_after("afterany", tasks)]
        gate = self._executor(f"{phase.name}.gate", waits).submit(
            gate_job, str(self.step.out), phase.name, str(self.site.launch)
        )
        self.jobs["gates"][phase.name] = gate.job_id
        self._note()
        return gate.job_id

    def _requeues(self) -> bool:
        cluster = self.site.cluster
        # with a budget it is a gate that decides
        return cluster.requeue and cluster.links <= 1 and cluster.budget == Budget()

    def _link_count(self) -> int:
        """Jobs of a training in a row: what is left over of them leaves the queue when one comes to the end."""
        cluster, stage = self.site.cluster, self.step.stage
        if not stage.in_place or cluster.links or cluster.requeue:
            return cluster.links if stage.in_place and cluster.links else 1
        expected = stage.expected_seconds(self.step.out)
        usable = 60 * stage.resources.timeout_min - cluster.warning_s
        return min(MAX_LINKS, math.ceil(expected / usable)) if expected and usable > 0 else 1

    def _is_linked(self, ranks: list[int]) -> bool:
        return bool(ranks) and self._link_count() > 1

    def _arrays(self, phase: Phase, ranks: list[int], after: list[str]) -> list[str]:
        ids = []
        for chunk in _chunks(ranks, self.site.largest_array):
            arguments = [(str(self.step.out), phase.name, rank, self._requeues()) for rank in chunk]
            executor = self._task_executor(phase, _ok(after))
            job = executor.map_array(node.run_job, *zip(*arguments, strict=True))[0]
            ids.append(job.job_id.split("_")[0])
            self.jobs["tasks"].append({"phase": phase.name, "job": ids[-1], "ranks": chunk})
            self._note()
        return ids

    def _links(self, phase: Phase, after: list[str]) -> list[str]:
        """The same task several times: each starts only if none before it came to the end."""
        ids: list[str] = []
        for _ in range(self._link_count()):
            executor = self._task_executor(phase, [*_ok(after), *_after("afternotok", ids)])
            job = executor.submit(node.run_job, str(self.step.out), phase.name, 0, self._requeues())
            ids.append(job.job_id)
            self.jobs["tasks"].append({"phase": phase.name, "job": ids[-1], "ranks": [0]})
            self._note()
        return ids

    def _note(self) -> None:
        write_json(self.step.out / artifact.JOBS, self.jobs)

    def _task_executor(self, phase: Phase, waits: list[str]) -> submitit.AutoExecutor:
        resources, cluster = self.step.stage.resources, self.site.cluster
        more = {"exclude": ",".join(self.decision.excluded)} if self.decision.excluded else {}
        gpus = {"gpus_per_node": resources.gpus_per_node} if resources.gpus_per_node else {}
        executor = self._executor(phase.name, waits, **more)
        srun = [f"--cpus-per-task={resources.cpus}", *self.script.srun]
        if self.step.stage.processes() > 1:  # or those that live wait for one that never comes
            srun.append("--kill-on-bad-exit=1")
        executor.update_parameters(
            slurm_array_parallelism=cluster.max_parallel or self.site.largest_array,
            slurm_signal_delay_s=cluster.warning_s,
            timeout_min=resources.timeout_min,
            mem_gb=round(resources.mem_gb * self.decision.memory, 2),
            cpus_per_task=resources.cpus,
            nodes=resources.nodes,
            tasks_per_node=self.step.stage.processes() // resources.nodes,
            slurm_srun_args=srun,
            **gpus,
        )
        return executor

    def _executor(self, part: str, waits: list[str], **more: str) -> submitit.AutoExecutor:
        """For a small job of the suite's own; ``waits`` are Slurm's dependencies, all of which must hold."""
        cluster = self.site.cluster
        executor = submitit.AutoExecutor(
            folder=self.step.out / artifact.LOGS / "%j",
            cluster="slurm",
            slurm_python=self.script.python,
        )
        options = {name: value or True for name, value in cluster.slurm.items()}
        extra: dict[str, Any] = options | more | {"kill-on-invalid-dep": "yes"}
        extra |= {"dependency": ",".join(waits)} if waits else {}
        extra |= {"account": cluster.account} if cluster.account else {}
        extra |= {"qos": cluster.qos} if cluster.qos else {}
        executor.update_parameters(
            name=f"{self.step.out.name}.{part}",
            slurm_partition=cluster.partition,
            slurm_comment=str(self.step.out),
            slurm_setup=self.script.setup,
            slurm_srun_args=self.script.srun,
            slurm_additional_parameters=extra,
            stderr_to_stdout=True,
            timeout_min=GATE_TIMEOUT_MIN,
            mem_gb=GATE_MEM_GB,
            cpus_per_task=1,
        )
        return executor


def _ok(jobs: list[str]) -> list[str]:
    return _after("afterok", jobs)


def _after(how: str, jobs: list[str]) -> list[str]:
    return [f"{how}:{job}" for job in jobs]


def _chunks(ranks: list[int], size: int) -> Iterator[list[int]]:
    rest = iter(ranks)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
