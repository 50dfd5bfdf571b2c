"""A run under injected faults on a real Slurm, compared with one that nobody disturbed.

python -m benchmarks.chaos --faults 60 --seed 1

Brings up a cluster of four nodes on this machine (sbatch/devcluster), makes a data-and-training pipeline once in
peace, then again and again under faults until so many have hit; every artifact must equal the undisturbed one, byte for
byte, and the losses, number for number. The disk-full fault needs root (a small tmpfs).
"""

import argparse
import contextlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.files import read_json
from llmhpc.handoff import attempts, ledger, runs

CHECKOUT = Path(__file__).parents[1]
DEVCLUSTER = CHECKOUT / "sbatch" / "devcluster"
NODES = 4
TMPFS_MB = 700
STEPS = 150
PIPELINE = [
    "cluster=slurm",
    "cluster.partition=low",
    # the trial is whether a run survives, not whether it gives up: a cause may come as often as it is injected
    *(
        f"cluster.recovery.{cause}=1000"
        for cause in ("killed", "cancelled", "disk_full", "node_fail", "timeout", "damaged")
    ),
    "cluster.recovery.exclude_node_after=0",
    "cluster.warning_s=30",
    "stages.collect.source.standard_library=false",
    "stages.collect.source.packages=[click,jinja2,rich]",
    "stages.tokenizer.vocab_size=512",
    "stages.tokenizer.heldout_fraction=0.3",
    "stages.tokenize.heldout_fraction=0.3",
    "model=llama_tiny",
    "parallel=dp2",
    "stages.train.resources.nodes=2",
    f"stages.train.schedule.steps={STEPS}",
    "stages.train.schedule.warmup_steps=2",
    "stages.train.schedule.global_batch=8",
    "stages.train.schedule.sequence_length=64",
    "stages.train.parallel.micro_batch=2",
    "stages.train.checkpoint_every=50",
    "stages.train.save_every_min=0.05",
    "~stages.evaluate",
    "~stages.report",
]
SETTLE_S = 1.5  # between faults: on the average twice that
TICK_EVERY_S = 10.0  # cron's smallest step is a minute; here a run takes one
RUN_LIMIT_S = 1800


class Hit(NamedTuple):
    """A fault that was injected: which, on whom, when, in which run."""

    kind: str
    target: str
    time: float
    root: Path


class Cluster:
    """The dev cluster, and the commands of a user of it."""

    def __init__(self, room: Path) -> None:
        self.room = room
        self.environment = dict(os.environ)

    def up(self) -> None:
        """Start it, or what died of it."""
        settings = ["--set", "SlurmdTimeout=10", "--set", "KillWait=3"]
        subprocess.run(
            [DEVCLUSTER, "up", "--dir", self.room, "--nodes", str(NODES), *settings],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        line = subprocess.check_output([DEVCLUSTER, "env", "--dir", self.room], text=True)
        name, _, value = line.strip().removeprefix("export ").partition("=")
        self.environment = os.environ | {
            name: value.strip("'\""), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1",
        }  # fmt: skip
        os.environ[name] = self.environment[name]

    def down(self) -> None:
        """Stop it and remove its files."""
        subprocess.run([DEVCLUSTER, "down", "--wipe", "--dir", self.room], check=False, timeout=120)

    def run(self, *command: str) -> subprocess.CompletedProcess:
        """A command of a user."""
        return subprocess.run(
            command, check=False, capture_output=True, text=True, env=self.environment, cwd=CHECKOUT
        )

    def python(self, *words: str) -> list[str]:
        """A module of the suite."""
        return [sys.executable, "-m", *words]

    def start(self, root: Path) -> subprocess.Popen:
        """A launcher at work."""
        command = self.python("llmhpc.launch", *PIPELINE, f"root={root}")
        quiet = subprocess.DEVNULL
        return subprocess.Popen(
            command, env=self.environment, cwd=CHECKOUT, stdout=quiet, stderr=quiet
        )

    def queue(self, states: str = "R") -> list[tuple[str, str, str]]:
        """(job, name, nodes) of the jobs in these states."""
        out = self.run("squeue", "-h", "-r", "-t", states, "-o", "%i|%j|%N").stdout
        return [tuple(line.split("|")) for line in out.splitlines()]  # type: ignore[misc]


class Faults:
    """One method for each fault; it returns the victim, or "" where there is none just now."""

    def __init__(self, cluster: Cluster, root: Path, rng: random.Random) -> None:
        self.cluster, self.root, self.rng = cluster, root, rng

    def kill_task(self) -> str:
        """SIGKILL to a process of a task."""
        return self._kill(lambda name: not name.endswith((".gate", ".rescue")), signal.SIGKILL)

    def kill_gate(self) -> str:
        """SIGKILL to a gate."""
        return self._kill(lambda name: name.endswith(".gate"), signal.SIGKILL)

    def kill_step_daemon(self) -> str:
        """SIGKILL to the slurmstepd of a job."""
        return self._kill(lambda name: "." in name, signal.SIGKILL, daemon=True)

    def kill_node(self) -> str:
        """SIGKILL to a slurmd; it is started again once Slurm has given the node up, or before."""
        node = f"127.0.0.{self.rng.randint(1, NODES)}"
        pid = int((self.cluster.room / f"run/slurmd-{node}.pid").read_text())
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        time.sleep(self.rng.choice([0.5, 14]))
        self.cluster.up()
        return node

    def scancel_task(self) -> str:
        """scancel of one task."""
        victims = [q for q in self.cluster.queue() if not q[1].endswith((".gate", ".rescue"))]
        if not victims:
            return ""
        job, name, _ = self.rng.choice(victims)
        self.cluster.run("scancel", job)
        return f"{name} {job}"

    def preempt(self) -> str:
        """A job of a higher partition takes a node for two seconds."""
        busy = [q for q in self.cluster.queue() if not q[1].endswith((".gate", ".rescue"))]
        if not busy:
            return ""
        _, name, nodes = self.rng.choice(busy)
        self.cluster.run(
            "sbatch",
            "-p",
            "high",
            "--exclusive",
            "-w",
            nodes,
            "-o",
            "/dev/null",
            "--wrap",
            "sleep 2",
        )
        return f"{name} on {nodes}"

    def time_limit(self) -> str:
        """The time limit of a task is cut to what has passed: the warning comes, then the end."""
        victims = [q for q in self.cluster.queue() if not q[1].endswith((".gate", ".rescue"))]
        if not victims:
            return ""
        job, name, _ = self.rng.choice(victims)
        end = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(time.time() + 1))
        done = self.cluster.run("scontrol", "update", f"JobId={job}", f"EndTime={end}")
        return f"{name} {job}" if done.returncode == 0 else ""

    def full_disk(self) -> str:
        """The filesystem of the run has no room for a few seconds."""
        if not os.path.ismount(self.root):
            return ""
        filler = self.root / "filler"
        with contextlib.suppress(OSError), filler.open("wb") as file:
            while True:
                file.write(bytes(1 << 20))
        time.sleep(self.rng.uniform(1, 3))
        filler.unlink()
        return "root"

    def truncate_temporary(self) -> str:
        """A task is killed while it writes, and half of what it wrote is lost."""
        files = [p for p in self.root.glob("*-*/scratch/*/**/*") if p.is_file()]
        files += [p for p in self.root.glob("*-*/checkpoints/*.partial/**/*") if p.is_file()]
        if not files or not self.kill_task():
            return ""
        path = self.rng.choice(files)
        with contextlib.suppress(OSError):
            os.truncate(path, path.stat().st_size // 2)
        return str(path.relative_to(self.root))

    def two_launchers(self) -> str:
        """Two launchers at the same moment."""
        return self._launchers(2)

    def five_launchers(self) -> str:
        """Five launchers at the same moment."""
        return self._launchers(5)

    def kill_launcher(self) -> str:
        """A launcher is killed at work; another one comes."""
        process = self.cluster.start(self.root)
        time.sleep(self.rng.uniform(0.2, 1.2))
        process.kill()
        process.wait()
        self._launchers(1)
        return f"process {process.pid}"

    def _launchers(self, count: int) -> str:
        for process in [self.cluster.start(self.root) for _ in range(count)]:
            process.wait(timeout=300)
        return f"{count} launchers"

    def _kill(self, wanted: Callable[[str], bool], sign: int, *, daemon: bool = False) -> str:
        jobs = {job: name for job, name, _ in self.cluster.queue() if wanted(name)}
        victims = [
            (pid, jobs[job])
            for pid, job in _processes(self.cluster.room, daemon=daemon)
            if job in jobs
        ]
        if not victims:
            return ""
        pid, name = self.rng.choice(sorted(victims))
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, sign)
        return f"{name} process {pid}"


KINDS = [
    "kill_task", "kill_step_daemon", "kill_node", "scancel_task", "preempt", "time_limit", "full_disk",
    "truncate_temporary", "two_launchers", "five_launchers", "kill_launcher", "kill_gate",
]  # fmt: skip


def _processes(room: Path, *, daemon: bool) -> Iterator[tuple[int, str]]:
    """(pid, job) of Python processes of jobs of this cluster, or of the daemons above them."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError):
            words = dict(
                entry.split("=", 1)
                for entry in (process / "environ").read_bytes().decode(errors="replace").split("\0")
                if "=" in entry
            )
            command = (process / "cmdline").read_bytes().decode(errors="replace")
            if words.get("SLURM_CONF", "") != f"{room}/etc/slurm.conf":
                continue
            array, task = words.get("SLURM_ARRAY_JOB_ID"), words.get("SLURM_ARRAY_TASK_ID")
            job = f"{array}_{task}" if array else words.get("SLURM_JOB_ID", "")
            if daemon:
                if "slurmstepd: [" in command:
                    number = command.split("[")[1].split(".")[0].split("]")[0]
                    yield int(process.name), number
            elif job and "submitit.core._submit" in command:
                yield int(process.name), job


@contextlib.contextmanager
def fresh_root(folder: Path) -> Iterator[Path]:
    """A new root, on a small filesystem of its own where this user may mount one."""
    root = Path(tempfile.mkdtemp(dir=folder))
    options = ["-t", "tmpfs", "-o", f"size={TMPFS_MB}m", "tmpfs", str(root)]
    mounted = os.geteuid() == 0 and subprocess.run(["mount", *options], check=False).returncode == 0
    try:
        yield root
    finally:
        if mounted:
            subprocess.run(["umount", "-l", str(root)], check=False)


def made(root: Path) -> dict[str, Any]:
    """What is compared: of each step the files with their checksums; of training the exports and the losses."""
    found: dict[str, Any] = {}
    for manifest in sorted(root.glob("*/manifest.json")):
        record = read_json(manifest)
        files = {name: entry["sha256"] for name, entry in record["files"].items()}
        if record["kind"] == "train":
            files = {
                n: s
                for n, s in files.items()
                if n.startswith(("exports/", "checkpoints/"))  # others hold times
            }
            lines = (manifest.parent / "metrics.jsonl").read_text().splitlines()
            found["losses"] = [
                (r["step"], r["loss"], r["grad_norm"]) for r in map(json.loads, lines)
            ]
        found[manifest.parent.name] = files
    return found


def differences(expected: dict[str, Any], found: dict[str, Any]) -> list[str]:
    """What differs, in a few words each."""
    lines = [f"{n}: only in one" for n in sorted(expected.keys() ^ found.keys())]
    for name in sorted(expected.keys() & found.keys()):
        a, b = expected[name], found[name]
        if isinstance(a, dict):
            files = sorted(f for f in a.keys() | b.keys() if a.get(f) != b.get(f))
            lines += [f"{name}/{file}" for file in files]
        elif a != b:
            steps = [one[0] for one, other in zip(a, b, strict=False) if one != other]
            lines.append(f"{name}: {len(a)} and {len(b)}, different from {steps[:1]}")
    return lines


def complete(root: Path) -> bool:
    """True once the newest launch is over and good."""
    launches = runs.all_of(root)
    return bool(launches) and all(
        (home / "manifest.json").exists() for home in runs.homes(launches[-1])
    )


def tick(cluster: Cluster, root: Path) -> None:
    """What cron does; and a person who launches again where the suite has rightly given up."""
    if runs.all_of(root):
        cluster.run(*cluster.python("llmhpc.tick", str(root)))
        if all("ended" in runs.read(path) for path in runs.all_of(root)) and not complete(root):
            print(
                "    a person has to launch again:",
                [runs.read(p).get("why") for p in runs.all_of(root)][-1],
                flush=True,
            )
            cluster.start(root).wait(timeout=300)


def disturbed_run(
    cluster: Cluster, root: Path, rng: random.Random, budget: int, kinds: list[str]
) -> list[Hit]:
    """One run under faults until it is complete, at most ``budget`` of them."""
    cluster.start(root).wait(timeout=300)
    faults, hits = Faults(cluster, root, rng), []
    begun = last_tick = time.monotonic()
    while not complete(root):
        if time.monotonic() - begun > RUN_LIMIT_S:
            raise SystemExit(f"not complete after {RUN_LIMIT_S} s: {root}")
        time.sleep(rng.uniform(0.5, 1.5) * SETTLE_S)
        if len(hits) < budget:
            kind = rng.choice(kinds)
            if target := getattr(faults, kind)():
                hits.append(Hit(kind, target, time.time(), root))
                print(f"{len(hits):4d} {kind:20} {target}", flush=True)
        if time.monotonic() - last_tick > TICK_EVERY_S:
            last_tick = time.monotonic()
            tick(cluster, root)
    return hits


def costs(root: Path) -> tuple[ledger.Cost, dict[str, int]]:
    """The ledger of a root, and how often each cause was recorded."""
    total, causes = ledger.Cost(), {}
    for home in {home for path in runs.all_of(root) for home in runs.homes(path)}:
        records = attempts.every(home)
        total += ledger.of_records(records)
        for record in records:
            cause = record.get("cause", "open")
            causes[cause] = causes.get(cause, 0) + 1
    return total, causes


def main() -> int:
    """Exit status 0 if every artifact is as in the undisturbed run."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.chaos", description=__doc__)
    parser.add_argument("--faults", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", default="", help="one kind of fault, or several with commas")
    parser.add_argument("--keep", action="store_true", help="leave the runs for a look")
    options = parser.parse_args()
    kinds = options.only.split(",") if options.only else KINDS
    rng = random.Random(options.seed)
    folder = Path(tempfile.mkdtemp(prefix="chaos-", dir="/tmp"))
    cluster = Cluster(folder / "dc")
    hits: list[Hit] = []
    identical, total = True, ledger.Cost()
    begun = time.monotonic()
    try:
        cluster.up()
        print("the undisturbed run", flush=True)
        (clean := folder / "clean").mkdir()
        disturbed_run(cluster, clean, rng, 0, kinds)
        expected = made(clean)
        print(f"complete after {time.monotonic() - begun:.0f} s", flush=True)
        while len(hits) < options.faults:
            with fresh_root(folder) as root:
                hits += disturbed_run(cluster, root, rng, options.faults - len(hits), kinds)
                different = differences(expected, made(root))
                cost, causes = costs(root)
                total += cost
                identical &= not different
                print(
                    f"run complete, {f'DIFFERENT: {different[:5]}' if different else 'identical'}; attempts: {causes}",
                    flush=True,
                )
    finally:
        cluster.down()
        if not options.keep:
            shutil.rmtree(folder, ignore_errors=True)
    print(f"{'fault':20} {'injected':>8}")
    for kind in kinds:
        print(f"{kind:20} {sum(hit.kind == kind for hit in hits):8d}")
    summary = {
        "faults": len(hits),
        "recovered": len(hits),
        "identical": identical,
        "goodput": round(total.goodput, 3),
    }
    print(json.dumps(summary | {"seconds": round(time.monotonic() - begun)}))
    return 0 if identical else 1


if __name__ == "__main__":
    sys.exit(main())
