"""The dev cluster on this machine (sbatch/devcluster), and what a user can do and see there."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

CHECKOUT = Path(__file__).parents[1]
DEVCLUSTER = CHECKOUT / "sbatch" / "devcluster"
GONE_S = 60  # until the jobs of a run that is over have left


class Job(NamedTuple):
    """A job, or a task of an array, that belongs to a step; times are whole seconds, as Slurm has them."""

    key: str  # as in a step's attempts: 17, or 17_3 for a task of an array
    number: str  # Slurm gives each task of an array one of its own
    name: str  # <step>.<phase>, <step>.<phase>.gate, <step>.rescue
    nodes: str
    state: str
    start: float
    end: float
    home: str

    @property
    def is_guard(self) -> bool:
        """True for gates and rescues, which have no attempts on record."""
        return self.name.endswith(".gate") or self.is_rescue

    @property
    def is_rescue(self) -> bool:
        return self.name.endswith(".rescue")


class Cluster:
    """A cluster in a folder of its own; its user is whoever starts it."""

    def __init__(self, room: Path, nodes: int, *settings: str) -> None:
        self.room, self.nodes, self.environment = room, nodes, dict(os.environ)
        self.options = [word for setting in settings for word in ("--set", setting)]

    def up(self) -> None:
        """Start it, or what died of it."""
        command = [DEVCLUSTER, "up", "--dir", self.room, "--nodes", str(self.nodes), *self.options]
        subprocess.run(command, check=True, capture_output=True, timeout=300)
        line = subprocess.check_output([DEVCLUSTER, "env", "--dir", self.room], text=True)
        name, _, value = line.strip().removeprefix("export ").partition("=")
        self.environment[name] = value.strip("'\"")

    def down(self) -> None:
        """Stop it, with every process of its jobs, and remove its files."""
        command = [DEVCLUSTER, "down", "--wipe", "--dir", self.room]
        subprocess.run(command, check=False, capture_output=True, timeout=120)
        self._kill(daemons=True)  # and launchers

    def clear(self) -> None:
        """No job and no process of one is left."""
        self.run("scancel", "--me")
        until = time.monotonic() + GONE_S
        while self.run("squeue", "-h").stdout and time.monotonic() < until:
            time.sleep(0.2)
        self._kill(daemons=False)  # those of jobs

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """A command of the user."""
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.environment, cwd=CHECKOUT
        )

    def module(self, *words: str) -> subprocess.Popen:
        """A module of the suite, at work."""
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            [sys.executable, "-m", *words],
            env=self.environment, cwd=CHECKOUT, stdout=quiet, stderr=quiet,
        )  # fmt: skip

    def jobs(self, *which: str) -> list[Job]:
        """The jobs of steps that run; or those that squeue's options choose."""
        options = ["-h", "-r", "-o", "%i|%A|%j|%N|%T|%S|%e|%k", *(which or ("-t", "R"))]
        rows = [line.split("|") for line in self.run("squeue", *options).stdout.splitlines()]
        return [
            Job(*row[:5], *map(_epoch, row[5:7]), row[7])
            for row in rows
            if row[7].startswith("/")  # the suite's comment on a job: the step's directory
        ]

    def processes(self) -> Iterator[tuple[int, list[str], dict[str, str]]]:
        """(pid, command, environment) of what runs on this cluster, daemons too."""
        for process in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (process / "environ").read_bytes().decode(errors="replace").split("\0")
                environment = dict(word.split("=", 1) for word in words if "=" in word)
                command = (process / "cmdline").read_bytes().decode(errors="replace").split("\0")
                if environment.get("SLURM_CONF") == f"{self.room}/etc/slurm.conf":
                    yield int(process.name), command, environment

    def _kill(self, *, daemons: bool) -> None:
        """What runs on this cluster; also what outlived its step daemon, of which Slurm knows nothing any more."""
        for pid, _, environment in self.processes():
            if daemons or "SLURM_JOB_ID" in environment:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)


def _epoch(stamp: str) -> float:
    return 0.0 if stamp == "N/A" else time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))
