"""The Slurm jobs of one step: arrays or links for each phase, a gate behind each, a rescue at the end."""

import itertools
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import submitit

from llmhpc import step as node
from llmhpc.config import Budget, Cluster, Phase
from llmhpc.executors import environment
from llmhpc.executors.recovery import Decision
from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.planning.plan import Step

GATE_TIMEOUT_MIN = 60
GATE_MEM_GB = 1
MAX_LINKS = 50


@dataclass(frozen=True)
class Site:
    """What the jobs of all steps of a submission have in common."""

    cluster: Cluster
    launch: Path
    largest_array: int
    code: Path  # snapshot of the code that the jobs run
    gate: Callable[[str, str, str], None]  # step directory, phase, launch: what a gate does
    rescue: Callable[[Path], object]  # launch: what is done if a gate is killed


class Submitter:
    """The jobs of one step."""

    def __init__(self, site: Site, step: Step, after: list[str], decision: Decision) -> None:
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
        self.jobs["rescues"].append(rescue.submit(self.site.rescue, self.site.launch).job_id)
        self.jobs["submitted"] = True
        self._note()
        return self.jobs

    def look(self, homes: list[str]) -> str:
        """The job of a look at what the steps can show so far."""
        executor = self._task_executor(Phase(artifact.PREVIEW, 1), [])
        gpus = {"gpus_per_node": 1} if self.step.stage.resources.gpus_per_node else {}
        executor.update_parameters(nodes=1, tasks_per_node=1, **gpus)  # it is one process's
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
            self.site.gate, str(self.step.out), phase.name, str(self.site.launch)
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
