"""Run a plan on this machine: tasks as processes through submitit, or in this process (debug), with progress.

Killing it at any moment loses at most the tasks that were running; the same command goes on.
"""

import os
import signal
import socket
import time
from pathlib import Path

import submitit

from llmhpc import step as node
from llmhpc.config import Cluster, Executor, Phase
from llmhpc.display import Display
from llmhpc.errors import ArtifactError, LlmhpcError
from llmhpc.executors.recovery import decide
from llmhpc.files import read_json
from llmhpc.handoff import artifact, attempts, claim, ledger
from llmhpc.handoff.state import QUEUED, RUNNING, state_of
from llmhpc.planning.plan import Step

POLL_S = 0.1


def run(cluster: Cluster, steps: list[Step], display: Display) -> bool:
    """Run every step that is not done, each after what it needs; True if all are done in the end."""
    slots = cluster.max_parallel or os.cpu_count() or 1
    works = {step.out: _Work(cluster, step, slots) for step in steps}
    previous = signal.signal(signal.SIGTERM, _raise_interrupt)
    try:
        while any(work.active(works) for work in works.values()):
            free = slots - sum(work.slots_taken() for work in works.values())
            for work in works.values():
                free -= work.advance(works, free)
            display.show([work.state() for work in works.values()])
            time.sleep(POLL_S)
    finally:
        for work in works.values():
            work.stop()
        signal.signal(signal.SIGTERM, previous)
    display.show([work.state() for work in works.values()], final=True)
    return all(artifact.sealed(step.out) for step in steps)


def _raise_interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class _Work:
    """One step on its way: which phase it is in, which of its tasks run."""

    def __init__(self, cluster: Cluster, step: Step, slots: int) -> None:
        self.cluster, self.step = cluster, step
        wanted = step.stage.processes() * step.stage.resources.cpus
        self.slots_each = min(slots, wanted)
        self.claimed = False
        self.maker = ""  # another launcher that makes it
        self.since = time.time()  # what failed before does not count against this launch
        self.failed = False
        self.queue: list[int] = []
        self.phase: Phase | None = None
        self.jobs: dict[int, submitit.Job | _Orphan] = {}

    def active(self, works: "dict[Path, _Work]") -> bool:
        """True while there is something left to do or to wait for."""
        if artifact.sealed(self.step.out) and not self.claimed:
            return False
        if self.failed:
            return bool(self.jobs)
        return not any(works[need].dead(works) for need in self.step.inputs.values())

    def dead(self, works: "dict[Path, _Work]") -> bool:
        """True if this step will never be done in this run."""
        return self.failed or (
            not artifact.sealed(self.step.out)
            and any(works[need].dead(works) for need in self.step.inputs.values())
        )

    def slots_taken(self) -> int:
        """How many of the machine's slots the running tasks take."""
        return len(self.jobs) * self.slots_each

    def state(self) -> tuple[Step, str]:
        """The step and one line about how far it is."""
        if self.queue and not self.jobs and not self.failed:
            return self.step, f"{QUEUED}: for a free core"
        state = state_of(self.step.out, self.step.stage.phases())
        by = f"by {self.maker}" if self.maker and state.word == RUNNING else ""
        note = ", ".join(part for part in (by, state.note) if part)
        return self.step, f"{state.word}{': ' if note else ''}{note}"

    def advance(self, works: "dict[Path, _Work]", free: int) -> int:
        """Collect tasks that ended, start new ones into ``free`` slots; returns the slots newly taken."""
        if not self.active(works) or not all(
            artifact.sealed(need) for need in self.step.inputs.values()
        ):
            return 0
        if not self.claimed:
            if not claim.take(self.step.out):
                self.maker = claim.holder(self.step.out)
                return 0  # another launcher makes it: wait for its seal
            self.maker = ""
            if artifact.sealed(self.step.out):
                claim.release(self.step.out)
                return 0
            artifact.order(self.step)
            self.claimed = True
        self._collect()
        if self.failed:
            return 0
        if not self.queue and not self.jobs:
            self._next_phase(works)
        taken = 0
        while (
            self.queue
            and not self.failed
            and (taken + self.slots_each <= free or not self._busy(works))
        ):
            self._start(self.queue.pop(0))
            taken += self.slots_each
        return taken

    def stop(self) -> None:
        """End the running tasks and give the claim up."""
        for job in self.jobs.values():
            job.cancel(check=False)
        for job in self.jobs.values():
            while not job.done():
                time.sleep(POLL_S)
        if self.claimed:
            claim.release(self.step.out)

    def _busy(self, works: "dict[Path, _Work]") -> bool:
        return any(work.jobs for work in works.values())

    def _collect(self) -> None:
        for rank, job in list(self.jobs.items()):
            if job.done():
                del self.jobs[rank]
                assert self.phase is not None
                if not artifact.mark_path(self.step.out, self.phase.name, rank).exists():
                    self._again(self.phase, rank)

    def _again(self, phase: Phase, rank: int) -> None:
        """Start a task that ended badly once more, if its cause may come again."""
        out = self.step.out
        attempts.close(out, {})
        decision = decide(out, phase, [rank], self.cluster.recovery, self.since)
        if decision.stop:
            self.failed = True
            node.note_failure(out, phase.name, decision.stop)
        else:
            self.queue.insert(0, rank)

    def _next_phase(self, works: "dict[Path, _Work]") -> None:
        """Run the gate of the phase that ended, then queue the next one; the last gate seals."""
        out = self.step.out
        try:
            rest = node.remaining(out, self.step.stage)
            done = self.phase or self.step.stage.phases()[0]
            if rest:
                if rest[0][0] != done:
                    node.gate(out, done.name)
                if why := ledger.overdrawn(self.cluster.budget, works):
                    node.note_failure(out, rest[0][0].name, why)
                    self.failed = True
                    return
                self.phase, self.queue = rest[0][0], rest[0][1]
            else:
                node.gate(out, self.step.stage.phases()[-1].name)
                claim.release(out)
                self.claimed = False
        except ArtifactError:
            self.failed = True

    def _start(self, rank: int) -> None:
        assert self.phase is not None
        arguments = (str(self.step.out), self.phase.name, rank)
        if orphan := _orphan(self.step.out, self.phase.name, rank):
            self.jobs[rank] = orphan
            return
        if self.cluster.executor is Executor.debug:
            try:
                node.run_task(*arguments)
            except LlmhpcError:
                self.failed = True
            return
        executor = submitit.AutoExecutor(folder=_logs(self.step.out), cluster="local")
        executor.update_parameters(
            timeout_min=self.step.stage.resources.timeout_min,
            tasks_per_node=self.step.stage.processes(),
            gpus_per_node=self.step.stage.resources.gpus_per_node,
            stderr_to_stdout=True,
        )
        self.jobs[rank] = executor.submit(node.run_job, *arguments)


class _Orphan:
    """A task whose launcher was killed and that goes on alone: waited for, never started a second time."""

    def __init__(self, pid: int, born: str) -> None:
        self.pid, self.born = pid, born

    def done(self) -> bool:
        """True once the process has ended."""
        return claim.born(self.pid) != self.born

    def cancel(self, check: bool = False) -> None:
        """Ask it to end."""
        if not self.done():
            os.kill(self.pid, signal.SIGTERM)


def _orphan(home: Path, phase: str, rank: int) -> _Orphan | None:
    """The process of this task that still runs on this machine, if there is one."""
    for path in sorted((home / artifact.ATTEMPTS).glob(f"{phase}-{rank:05d}-*.json")):
        attempt = read_json(path)
        if "end" not in attempt and attempt["host"] == socket.gethostname() and not attempt["job"]:
            orphan = _Orphan(attempt["pid"], attempt["born"])
            if not orphan.done():
                return orphan
    return None


def _logs(home: Path) -> Path:
    return home / artifact.LOGS / "%j"
