"""Steps as Slurm jobs: an array for each phase, a gate behind it, dependencies in between."""

import itertools
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import submitit
from submitit.core.utils import FailedJobError, FailedSubmissionError

from llmhpc import artifact, claim
from llmhpc import step as node
from llmhpc.config import Cluster, Phase
from llmhpc.errors import ConfigError, StageError
from llmhpc.files import read_json
from llmhpc.plan import Step

GATE_TIMEOUT_MIN = 60
GATE_MEM_GB = 1
OTHER_LAUNCH_WAIT_S = 120


def check_here() -> None:
    """Raise ConfigError if this machine cannot submit to a Slurm that answers."""
    if not shutil.which("sbatch"):
        raise ConfigError(
            "cluster.executor=slurm: there is no sbatch here; cluster=local runs on this machine,"
            " sbatch/devcluster up starts a Slurm on it"
        )
    call = subprocess.run(["sinfo", "--version"], check=False, capture_output=True, text=True)
    alive = subprocess.run(["scontrol", "ping"], check=False, capture_output=True, text=True)
    if call.returncode or "UP" not in alive.stdout:
        why = " ".join((call.stderr + alive.stdout + alive.stderr).split())[:200]
        raise ConfigError(f"cluster.executor=slurm: no slurmctld answers ({why})")


def submit(cluster: Cluster, steps: list[Step]) -> dict[str, list[str]]:
    """Submit what is not done and return; step name -> its job ids, new or joined.

    Nothing has to stay alive afterwards: a failed gate takes its dependants off the queue.
    """
    last: dict[str, str] = {}  # step -> the job that seals it
    ids: dict[str, list[str]] = {}
    largest = max_array_size()
    for step in steps:
        if artifact.sealed(step.out):
            continue
        if claim.take(step.out):
            artifact.order(step)
            after = [last[name] for name in step.after if name in last]
            submitter = _Submitter(cluster, step, largest)
            try:
                ids[step.name], last[step.name] = submitter.run(after)
            except (FailedJobError, FailedSubmissionError) as error:
                submitter.withdraw()
                why = " ".join(str(error).split())
                raise StageError(f"stages.{step.name}: sbatch refused it: {why}") from None
        elif jobs := _others_jobs(step.out):
            ids[step.name], last[step.name] = jobs["ids"], jobs["last"]
    return ids


def _others_jobs(home: Path) -> dict[str, Any] | None:
    """The jobs of another launcher that is submitting this step right now; None if it is sealed meanwhile."""
    until = time.monotonic() + OTHER_LAUNCH_WAIT_S
    while time.monotonic() < until:
        jobs = read_json(home / artifact.JOBS)
        if jobs and jobs["submitted"]:
            return jobs
        if artifact.sealed(home):
            return None
        time.sleep(0.2)
    raise StageError(f"{home}: another launcher holds {artifact.CLAIM} and does not submit")


class _Submitter:
    """The jobs of one step."""

    def __init__(self, cluster: Cluster, step: Step, largest_array: int) -> None:
        self.cluster, self.step, self.largest = cluster, step, largest_array
        self.ids: list[str] = []

    def run(self, after: list[str]) -> tuple[list[str], str]:
        """All phases in order, each behind the gate of the one before; (job ids, id of the last gate)."""
        phases = node.remaining(self.step.out, self.step.stage)
        gate = ""
        for phase, ranks in phases or [(self.step.stage.phases()[-1], [])]:
            gate = self._phase(phase, ranks, after)
            after = [gate]
        claim.record_jobs(self.step.out, self.ids, gate, submitted=True)
        return self.ids, gate

    def withdraw(self) -> None:
        """Take the step's jobs off the queue and give the claim up."""
        if self.ids:
            subprocess.run(["scancel", *self.ids], check=False)
        claim.release(self.step.out)

    def _phase(self, phase: Phase, ranks: list[int], after: list[str]) -> str:
        if phase.ranks == 1 and ranks:  # the task runs its own gate
            job = self._executor(after, phase.name).submit(
                node.run_job, str(self.step.out), phase.name, 0
            )
            return self._note([job.job_id])
        arrays = []
        for chunk in _chunks(ranks, self.largest):
            jobs = self._executor(after, phase.name).map_array(
                node.run_job,
                *zip(*[(str(self.step.out), phase.name, r) for r in chunk], strict=True),
            )
            arrays.append(jobs[0].job_id.split("_")[0])
            self._note(arrays[-1:])
        gate = self._executor(after, f"{phase.name}.gate", behind=arrays).submit(
            node.gate, str(self.step.out), phase.name
        )
        return self._note([gate.job_id])

    def _note(self, ids: list[str]) -> str:
        self.ids += ids
        claim.record_jobs(self.step.out, self.ids, ids[-1], submitted=False)
        return ids[-1]

    def _executor(
        self, after: list[str], part: str, *, behind: list[str] | None = None
    ) -> submitit.AutoExecutor:
        """For a task, or for the gate ``behind`` arrays; both only if what they come ``after`` went well."""
        cluster, resources = self.cluster, self.step.stage.resources
        executor = submitit.AutoExecutor(
            folder=self.step.out / artifact.LOGS / "%j",
            cluster="slurm",
            slurm_python=cluster.python,
        )
        gate = behind is not None
        extra = dict(cluster.slurm)
        extra["kill-on-invalid-dep"] = "yes"
        # afterany on the ranks: the gate looks at what is on disk. afterok on gates also for a gate: behind an
        # array that was cancelled for want of its input, afterany alone would start it
        waits = [f"afterok:{job}" for job in after] + [f"afterany:{job}" for job in behind or []]
        if waits:
            extra["dependency"] = ",".join(waits)
        if cluster.account:
            extra["account"] = cluster.account
        if cluster.qos:
            extra["qos"] = cluster.qos
        executor.update_parameters(
            name=f"{self.step.out.name}.{part}",
            slurm_partition=cluster.partition,
            slurm_additional_parameters=extra,
            slurm_array_parallelism=cluster.max_parallel or self.largest,
            stderr_to_stdout=True,
            **(
                {"timeout_min": GATE_TIMEOUT_MIN, "mem_gb": GATE_MEM_GB, "cpus_per_task": 1}
                if gate
                else {
                    "timeout_min": resources.timeout_min,
                    "mem_gb": resources.mem_gb,
                    "cpus_per_task": resources.cpus,
                    "nodes": resources.nodes,
                    "tasks_per_node": self.step.stage.processes() // resources.nodes,
                    "slurm_srun_args": [f"--cpus-per-task={resources.cpus}"],
                }
            ),
            **({"gpus_per_node": resources.gpus_per_node} if resources.gpus_per_node else {}),
        )
        return executor


def max_array_size() -> int:
    """The largest number of tasks in one array: Slurm's MaxArraySize, whose top index is one less."""
    call = subprocess.run(
        ["scontrol", "show", "config"], check=False, capture_output=True, text=True
    )
    for line in call.stdout.splitlines():
        if line.startswith("MaxArraySize"):
            return int(line.split("=")[1]) - 1
    return 1000


def _chunks(ranks: list[int], size: int) -> Iterator[list[int]]:
    rest = iter(ranks)
    while chunk := list(itertools.islice(rest, size)):
        yield chunk
