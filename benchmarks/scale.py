"""How the suite behaves with many nodes, many tasks and many steps: seconds, and calls of the scheduler.

python -m benchmarks.scale --nodes 128 --tasks 10000 --steps 1000

Brings up a cluster of so many nodes on this machine (sbatch/devcluster). One step of so many tasks is planned, submitted,
looked at and cancelled; a plan of so many steps is made; calls are counted by programs of the same names ahead in PATH.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from benchmarks.devcluster import CHECKOUT, Cluster
from llmhpc.config import Config, Stage
from llmhpc.planning.plan import plan

COUNTED = ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sinfo", "sacctmgr")


def counting(folder: Path) -> Path:
    """Programs that note their call and then are what they are named after; returns the note."""
    note = folder / "calls"
    (folder / "bin").mkdir()
    for name in COUNTED:
        if real := shutil.which(name):
            script = folder / "bin" / name
            script.write_text(f'#!/bin/sh\necho {name} >> {note}\nexec {real} "$@"\n')
            script.chmod(0o755)
    return note


def timed(
    command: list[str], environment: dict[str, str], note: Path
) -> tuple[float, Counter[str], str]:
    """Seconds of a command, the scheduler calls that it made, and what it printed."""
    note.write_text("")
    begun = time.monotonic()
    done = subprocess.run(
        command, check=False, capture_output=True, text=True, env=environment, cwd=CHECKOUT
    )
    seconds = time.monotonic() - begun
    print(f"    {done.stdout.strip().splitlines()[-1][:150]}", flush=True)
    if done.returncode:
        raise SystemExit(done.stdout + done.stderr)
    return seconds, Counter(note.read_text().split()), done.stdout


def plan_seconds(steps: int) -> float:
    """A plan of so many steps, each after the one before."""
    stages = {
        f"s{n}": Stage(kind="shuffle", needs={"documents": f"s{n - 1}"} if n else {})
        for n in range(steps)
    }
    cfg = Config(name="scale", root="/nowhere", stages=stages)
    begun = time.monotonic()
    plan(cfg)
    return time.monotonic() - begun


def main() -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("--nodes", type=int, default=128)
    parser.add_argument("--tasks", type=int, default=10000)
    parser.add_argument("--steps", type=int, default=1000)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="scale-", dir="/tmp"))
    cluster, root = Cluster(folder / "dc", options.nodes), folder / "root"
    rows: list[tuple[str, float, Counter[str]]] = [
        (f"plan of {options.steps} steps", plan_seconds(options.steps), Counter())
    ]
    try:
        begun = time.monotonic()
        cluster.up()
        rows.append((f"{options.nodes} nodes up", time.monotonic() - begun, Counter()))
        note = counting(folder)
        path = f"{folder / 'bin'}:{os.environ['PATH']}"
        environment = cluster.environment | {"PATH": path}
        later = (
            "filter",
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
        one_step = [*(f"~stages.{stage}" for stage in later), "~model", "~parallel", "~schedule"]
        # held: what is measured is the scheduler's work, not that of ten thousand tasks on this machine
        launch = [sys.executable, "-m", "llmhpc.launch", "cluster=slurm", *one_step, f"root={root}",
                  "stage/collect@stages.collect=commoncrawl", "stages.collect.source.dump=CC-MAIN-2024-10",
                  f"stages.collect.ranks={options.tasks}", "+cluster.slurm.hold=''"]  # fmt: skip
        rows.append(
            (f"submit one step of {options.tasks} tasks", *timed(launch, environment, note)[:2])
        )
        status = [sys.executable, "-m", "llmhpc.status", str(root)]
        rows.append(("status", *timed(status, environment, note)[:2]))
        rows.append(("launch again (joins)", *timed(launch, environment, note)[:2]))
        tick = [sys.executable, "-m", "llmhpc.tick", str(root)]
        rows.append(("tick", *timed(tick, environment, note)[:2]))
        cancel = [sys.executable, "-m", "llmhpc.cancel", "--root", str(root)]
        rows.append(("cancel", *timed(cancel, environment, note)[:2]))
    finally:
        cluster.down()
        shutil.rmtree(folder, ignore_errors=True)
    for what, seconds, calls in rows:
        print(f"{what:34} {seconds:8.2f} s  {sum(calls.values()):3d} calls  {dict(calls) or ''}")
    print(
        json.dumps(
            {what: {"seconds": round(s, 3), "calls": sum(c.values())} for what, s, c in rows}
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
