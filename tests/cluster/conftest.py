"""A real Slurm of four nodes for the tests of recovery, and a user of it."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "sbatch" / "devcluster"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
WAIT_S = 300
LATER = ("dedup", "shuffle", "tokenizer", "tokenize", "train", "evaluate", "report")


class User:
    """Somebody with an account on the cluster, and a root of their own."""

    def __init__(self, environment: dict[str, str], root: Path) -> None:
        self.environment, self.root = environment, root

    def run(self, *command: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(word) for word in command], check=False, capture_output=True, text=True,
            env=self.environment, cwd=ROOT, timeout=WAIT_S,
        )  # fmt: skip

    def python(self, module: str, *words: str | Path) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", f"llmhpc.{module}", *words)

    def launch(self, *overrides: str) -> str:
        done = self.python("launch", "cluster=slurm", *overrides, f"root={self.root}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, dict]:
        return {
            row["name"]: row
            for row in json.loads(self.python("status", self.root, "--json").stdout)
        }

    def settled(self) -> dict[str, dict]:
        """The state of every step once nothing is queued or running any more."""
        seen: list[dict[str, dict]] = []

        def nothing_runs() -> bool:
            seen.append(self.status())
            return not {"queued", "running"} & {row["state"] for row in seen[-1].values()}

        self.wait_for(nothing_runs)
        return seen[-1]

    def done(self) -> dict[str, dict]:
        rows = self.settled()
        assert {row["state"] for row in rows.values()} == {"done"}, rows
        return rows

    def wait_for(self, ready: Callable[[], object]) -> None:
        until = time.monotonic() + WAIT_S
        while not ready():
            assert time.monotonic() < until, f"waited in vain: {self.status()}"
            time.sleep(0.2)

    def running(self, name: str) -> list[str]:
        """Jobs that run and whose names end so."""
        rows = self.run("squeue", "-h", "-r", "-t", "R", "-o", "%i %j").stdout.splitlines()
        return [job for job, title in map(str.split, rows) if title.endswith(name)]

    def attempts(self, step: str) -> list[dict]:
        paths = sorted(self.root.glob(f"{step}-*/attempts/*-*.json"))
        return [json.loads(path.read_text()) for path in paths]


@contextmanager
def _cluster(*options: str) -> Iterator[dict[str, str]]:
    if any(shutil.which(program, path=PATH) is None for program in NEEDED):
        pytest.skip("no Slurm: apt-get install slurmctld slurmd slurm-client munge")
    room = Path(tempfile.mkdtemp(dir="/tmp", prefix="dc"))
    try:
        subprocess.run([DEVCLUSTER, "up", "--dir", room, *options], check=True, timeout=300)
        line = subprocess.check_output([DEVCLUSTER, "env", "--dir", room], text=True)
        name, _, value = line.strip().removeprefix("export ").partition("=")
        yield os.environ | {name: value.strip("'\""), "PATH": PATH}
    finally:
        subprocess.run([DEVCLUSTER, "down", "--wipe", "--dir", room], check=True, timeout=120)


@pytest.fixture(scope="session")
def cluster_with() -> Callable[..., AbstractContextManager[dict[str, str]]]:
    """Brings up a cluster with options of devcluster's; as a context, the environment of a shell that uses it."""
    return _cluster


@pytest.fixture(scope="session")
def shell():
    """The environment of a shell that uses a cluster of four nodes."""
    with _cluster() as environment:
        yield environment


@pytest.fixture(scope="session")
def user_of() -> type[User]:
    """Makes a user of a cluster's environment and a root."""
    return User


@pytest.fixture
def user(shell, tmp_path) -> User:
    return User(shell, tmp_path / "root")


@pytest.fixture
def data(tiny) -> list[str]:
    """Only the first two steps."""
    return [o for o in tiny if not o.startswith(("model", "parallel"))][:2] + [
        f"~stages.{name}" for name in LATER
    ] + ["~model", "~parallel", "~schedule"]  # fmt: skip
