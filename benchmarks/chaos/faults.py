"""The faults: one method for each, and the choice of the next one."""

import contextlib
import os
import random
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from benchmarks.chaos import pipeline
from benchmarks.devcluster import Cluster, Job
from llmhpc.handoff import attempts

RARE = ("truncate_temporary", "kill_gate")  # their victims live for a second or two
PATIENCE_S = 10.0  # to wait for one of those
AHEAD = (
    2  # how far a kind may be ahead of the least frequent one: there is always a launcher to start
)
NODE_BACK_S = (0.5, 14.0)  # before Slurm has given the node up (SlurmdTimeout), and after
FILL_BLOCK = bytes(1 << 20)


class Hit(NamedTuple):
    """A fault that was injected: which, on what, from when to when, and the jobs that it met."""

    kind: str
    target: str
    begin: float
    end: float
    victims: list[Job]


Met = tuple[str, list[Job]]  # what was hit, in words, and the jobs that it met
NOBODY: Met = ("", [])


class Faults:
    """Faults for one run. A method says what it hit, or NOBODY if there is no victim just now."""

    def __init__(
        self, cluster: Cluster, root: Path, rng: random.Random, injected: Counter[str]
    ) -> None:
        self.cluster, self.root, self.rng, self.injected = cluster, root, rng, injected
        self.cut: set[tuple[str, float]] = set()  # starts of jobs whose time limit was cut already

    def inject(self) -> Hit | None:
        """A fault of the kinds that came least until now; None if none of them has a victim."""
        least = min(self.injected.values())
        kinds = [kind for kind, count in self.injected.items() if count <= least + AHEAD]
        self.rng.shuffle(kinds)
        for kind in sorted(kinds, key=self.injected.__getitem__):
            until = time.time()
            if kind in RARE and self.injected[kind] == least:
                until += PATIENCE_S
            while True:
                begin = time.time()
                target, victims = getattr(self, kind)()
                if target:
                    self.injected[kind] += 1
                    return Hit(kind, target, begin, time.time(), victims)
                if time.time() > until:
                    break
                time.sleep(0.05)
        return None

    def kill_task(self) -> Met:
        """SIGKILL to a process of a task."""
        return self._kill([found for found in self._processes() if not found[1].is_guard])

    def kill_gate(self) -> Met:
        """SIGKILL to a gate."""
        return self._kill([found for found in self._processes() if found[1].name.endswith(".gate")])

    def kill_step_daemon(self) -> Met:
        """SIGKILL to the slurmstepd of a job."""
        return self._kill(list(self._processes(daemons=True)))

    def kill_node(self) -> Met:
        """SIGKILL to a slurmd; it is started again before Slurm has given the node up, or after."""
        busy = [_first(job.nodes) for job in self.cluster.jobs()]
        number = self.rng.choice(busy or [str(n + 1) for n in range(self.cluster.nodes)])
        node = f"127.0.0.{number}"
        victims = self.cluster.jobs("-t", "R", "-w", node)
        pid = int((self.cluster.room / f"run/slurmd-{node}.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(self.rng.choice(NODE_BACK_S))
        self.cluster.up()
        return f"slurmd of {node}", victims

    def scancel_task(self) -> Met:
        """scancel of one task."""
        if not (victims := self._tasks()):
            return NOBODY
        job = self.rng.choice(victims)
        self.cluster.run("scancel", job.key)
        return f"job {job.key}", [job]

    def preempt(self) -> Met:
        """A job of a higher partition takes the nodes of a task for two seconds."""
        if not (tasks := self._tasks()):
            return NOBODY
        nodes = self.rng.choice(tasks).nodes
        victims = self.cluster.jobs("-t", "R", "-w", nodes)
        where = ["-p", "high", "--exclusive", "-w", nodes, "-o", "/dev/null"]
        self.cluster.run("sbatch", *where, "--wrap", "sleep 2")
        return nodes, victims

    def time_limit(self) -> Met:
        """The time limit of a training is cut to what has passed: the warning comes, then the end.

        Slurm looks every 30 s: the tasks of the data steps would not be there any more.
        """
        trainings = [job for job in self._tasks() if job.name.startswith("train-")]
        victims = [job for job in trainings if (job.key, job.start) not in self.cut]
        if not victims:
            return NOBODY
        job = self.rng.choice(victims)
        self.cut.add((job.key, job.start))
        end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
        done = self.cluster.run("scontrol", "update", f"JobId={job.key}", f"EndTime={end}")
        return (f"job {job.key}", [job]) if done.returncode == 0 else NOBODY

    def full_disk(self) -> Met:
        """The filesystem of the run has no room for a few seconds."""
        victims = {job.key: job for job in self.cluster.jobs()}
        if not victims:
            return NOBODY
        filler = self.root / "filler"
        with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
            while file.write(FILL_BLOCK):
                pass
        time.sleep(self.rng.uniform(1, 3))
        victims |= {job.key: job for job in self.cluster.jobs()}
        filler.unlink()
        return "the root", list(victims.values())

    def truncate_temporary(self) -> Met:
        """A task is killed while it writes, and half of what it wrote is lost."""
        processes = [found for found in self._processes() if not found[1].is_guard]
        found = [
            (path, job)
            for pid, job in processes
            for pattern in (f"scratch/*-{pid}/**/*", "checkpoints/*.partial/**/*")
            for path in Path(job.home).glob(pattern)
            if _size(path)
        ]
        if not found:
            return NOBODY
        path, job = self.rng.choice(sorted(found))
        for pid, other in processes:  # all of them: one that lives would write on
            if other.key == job.key:
                _sigkill(pid)
        try:
            os.truncate(path, _size(path) // 2)
        except FileNotFoundError:
            return f"{path.name}, renamed just before", [job]
        return path.name, [job]

    def two_launchers(self) -> Met:
        """Two launchers at the same moment."""
        return self._launchers(2)

    def five_launchers(self) -> Met:
        """Five launchers at the same moment."""
        return self._launchers(5)

    def kill_launcher(self) -> Met:
        """A launcher is killed at work; another one comes."""
        process = pipeline.start(self.cluster, self.root)
        time.sleep(self.rng.uniform(0.2, 1.2))
        process.kill()
        process.wait()
        self._launchers(1)
        return f"launcher {process.pid}", []

    def _launchers(self, count: int) -> Met:
        for process in [pipeline.start(self.cluster, self.root) for _ in range(count)]:
            process.wait(timeout=300)
        return f"{count} launchers", []

    def _kill(self, found: list[tuple[int, Job]]) -> Met:
        if not found:
            return NOBODY
        pid, job = self.rng.choice(found)
        _sigkill(pid)
        return f"process {pid}", [job]

    def _tasks(self) -> list[Job]:
        """Tasks that run; if some have begun their work, those."""
        tasks = [job for job in self.cluster.jobs() if not job.is_guard]
        records = [record for job in tasks for record in attempts.every(Path(job.home))]
        begun = {record["job"] for record in records if "end" not in record}
        return [job for job in tasks if job.key in begun] or tasks

    def _processes(self, *, daemons: bool = False) -> Iterator[tuple[int, Job]]:
        """Python processes of jobs that run, or the daemons above them."""
        jobs = {job.number: job for job in self.cluster.jobs()}
        for pid, command, environment in self.cluster.processes():
            if daemons:
                found = re.match(r"slurmstepd: \[(\d+)", command[0])
                number = found[1] if found else ""
            else:  # srun has the same words behind it
                is_task = "submitit.core._submit" in command and "python" in command[0]
                number = environment.get("SLURM_JOB_ID", "") if is_task else ""
            if number in jobs:
                yield pid, jobs[number]


KINDS = [name for name in vars(Faults) if not name.startswith("_") and name != "inject"]


def _first(nodes: str) -> str:
    """The number of the first node of a list such as 127.0.0.[2-3]."""
    return re.findall(r"\d+", nodes.rpartition(".")[2])[0]


def _sigkill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def _size(path: Path) -> int:
    """Bytes of a file; 0 where there is none."""
    try:
        return path.stat().st_size if path.is_file() else 0
    except FileNotFoundError:
        return 0
