"""Two real Slurms for the tests of recovery, a plain and a strict one, and users of them."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pytest

from llmhpc.handoff.claim import born

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "sbatch" / "devcluster"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
WAIT_S = 300
STRICT = [  # forgets a job after two seconds, takes three tasks in an array, kills without waiting
    "MinJobAge=2",
    "MaxArraySize=3",
    "KillWait=0",
    "PartitionName=one Nodes=127.0.0.4",
    "PartitionName=warned Nodes=ALL PriorityTier=1 PreemptMode=CANCEL GraceTime=20",
]
LATER = (
    "dedup",
    "shuffle",
    "tokenizer",
    "tokenize",
    "train",
    "evaluate",
    "verdict",
    "inspect",
    "report",
)


class User:
    """Somebody with an account on the cluster, and a root of their own."""

    def __init__(self, environment: dict[str, str], root: Path) -> None:
        self.environment, self.root = environment, root

    def run(self, *command: str | Path) -> subprocess.CompletedProcess:
        return subprocess.run(
            [str(word) for word in command], check=False, capture_output=True, text=True,
            env=self.environment, cwd=ROOT, timeout=WAIT_S,
            # what a script puts in the background ignores it, and so would all that the tests start
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def python(self, module: str, *words: str | Path) -> subprocess.CompletedProcess:
        return self.run(sys.executable, "-m", f"llmhpc.{module}", *words)

    def launch(self, *overrides: str) -> str:
        done = self.python("launch", "cluster=slurm", *overrides, f"root={self.root}")
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self) -> dict[str, dict]:
        """The row of each step by its name, or by its directory's where several have one name."""
        rows = json.loads(self.python("status", self.root, "--json").stdout)
        names = [row["name"] for row in rows]
        return {
            n if names.count(n) == 1 else Path(r["out"]).name: r
            for n, r in zip(names, rows, strict=True)
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

    def queue(self, *words: str, what: str = "%i") -> list[str]:
        """What ``squeue`` says of the jobs that have not ended."""
        done = self.run("squeue", "-h", "-r", "-o", what, *words)
        assert done.returncode == 0, done.stderr
        return done.stdout.splitlines()

    def over(self) -> None:
        """Wait until no job is left."""
        self.wait_for(lambda: not self.queue())

    def begun(self, step: str) -> list[dict]:
        """Attempts of a step that go on, by rank."""
        open_ones = [record for record in self.attempts(step) if "end" not in record]
        return sorted(open_ones, key=lambda record: record["rank"])

    def gone(self, records: list[dict]) -> None:
        """Wait until the processes of attempts have ended."""
        self.wait_for(lambda: all(born(r["pid"]) != r["born"] for r in records))

    def jobs(self, step: str) -> dict:
        return json.loads(next(self.root.glob(f"{step}-*/jobs.json")).read_text())

    def losses(self) -> list[tuple]:
        """What its training has recorded."""
        (log,) = self.root.glob("train-*/metrics.jsonl")
        lines = map(json.loads, log.read_text().splitlines())
        return [(line["step"], line["loss"], line["grad_norm"]) for line in lines]

    def exports(self) -> dict[str, str]:
        """The files that its training has exported, with their digests."""
        manifest = json.loads(next(self.root.glob("train-*/manifest.json")).read_text())
        found = {name: file["sha256"] for name, file in manifest["files"].items()}
        return {name: digest for name, digest in found.items() if name.startswith("exports")}

    def has_data_of(self, other: "User") -> None:
        """Take the whole data steps of another root as they are."""
        for step in ("collect", "filter", "dedup", "shuffle", "tokenizer", "tokenize"):
            (home,) = other.root.glob(f"{step}-*")
            shutil.copytree(home, self.root / home.name)

    def trains(self, *, beyond: int) -> None:
        """Wait until its training is beyond a step."""

        def is_beyond() -> bool:
            paths = self.root.glob("train-*/progress/main-00000.json")
            return any(json.loads(path.read_text())["done"] > beyond for path in paths)

        self.wait_for(is_beyond)

    def attempts(self, step: str) -> list[dict]:
        paths = sorted(self.root.glob(f"{step}-*/attempts/*-*.json"))
        return [json.loads(path.read_text()) for path in paths]


@contextmanager
def _cluster(*options: str, programs: tuple[str, ...] = NEEDED) -> Iterator[dict[str, str]]:
    """The environment of a shell that uses a cluster of four nodes."""
    if any(shutil.which(program, path=PATH) is None for program in programs):
        pytest.skip("no Slurm: apt-get install slurmctld slurmd slurm-client munge")
    room = Path(tempfile.mkdtemp(dir="/tmp", prefix="dc"))
    room.chmod(0o755)  # other users use it, too
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
def strict_shell():
    """The same of a cluster with accounting that is strict."""
    words = [word for line in STRICT for word in ("--set", line)]
    with _cluster("--dbd", *words, programs=(*NEEDED, "slurmdbd", "mariadbd")) as environment:
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


@pytest.fixture
def strict(strict_shell, tmp_path) -> User:
    return User(strict_shell, tmp_path / "root")


@pytest.fixture(scope="session")
def uncut(shell, tiny, tmp_path_factory, user_of):
    """A user whose training nobody cut, what it was launched with, and what came out."""
    kept = [o for o in tiny if "evaluate" not in o and "schedule.steps" not in o]
    words = [*kept, "~stages.evaluate", "~stages.verdict", "~stages.report", "stages.train.schedule.steps=400",
             "stages.train.checkpoint_every=200"]  # fmt: skip
    user = user_of(shell, tmp_path_factory.mktemp("uncut") / "root")
    user.launch(*words)
    user.done()
    return user, words, (user.losses(), user.exports())


@pytest.fixture(scope="session")
def no_scontrol(tmp_path_factory) -> str:
    """The setting of a site whose nodes have every program but scontrol."""
    folder = tmp_path_factory.mktemp("bin")
    for path in (p for place in reversed(PATH.split(":")) for p in Path(place).glob("*")):
        if path.name != "scontrol":
            (folder / path.name).unlink(missing_ok=True)
            (folder / path.name).symlink_to(path)
    return f"+cluster.environment.variables.PATH='{folder}'"
