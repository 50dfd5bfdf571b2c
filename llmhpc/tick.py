"""One step forward for every run that has not ended, from cron: python -m llmhpc.tick [ROOT].

Submits again what a crashed launcher or a killed gate left and may be started again, has new checkpoints of a training
scored and the report made of what there is (<step>/preview/), notes which runs are over and says so to whoever wants to know. Does no harm if it runs twice, or twice at once.
"""

import argparse
import fcntl
import json
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

from llmhpc.config import Config, Executor
from llmhpc.display import results
from llmhpc.errors import LlmhpcError, denied_in_one_line
from llmhpc.executors import slurm
from llmhpc.files import write_json
from llmhpc.handoff import artifact, runs
from llmhpc.planning.registry import revive

NOTIFY_TIMEOUT_S = 60


def tick(root: Path) -> list[str]:
    """A line for each run that is open, or over and not said to be: what was done about it."""
    lines = []
    for launch in runs.all_of(root):
        record = runs.read(launch)
        if "ended" not in record:
            lines.append(f"{launch.stem}: {_advance(launch)}")
            record = runs.read(launch)
        over = record.get("ended") in ("done", "failed") and "notified" not in record
        if over and (said := _notify(launch, record)):
            lines.append(f"{launch.stem}: {said}")
    return lines


def _advance(launch: Path) -> str:
    cfg = _config(runs.read(launch))
    if cfg.cluster.executor is not Executor.slurm:
        if all(map(artifact.sealed, runs.homes(launch))):
            runs.end(launch, "done")
            return "done"
        return "not on Slurm: python -m llmhpc.launch goes on with it"
    try:
        submission = slurm.resume(launch)
    except LlmhpcError as error:
        return str(error)  # the next tick tries again
    if submission.new:
        return f"submitted again {', '.join(home.name for home in submission.new)}"
    if submission.jobs:
        return f"{len(submission.jobs)} steps on their way{_look(launch)}"
    return "; ".join(["failed", *submission.why()]) if submission.stopped else "done"


def _look(launch: Path) -> str:
    """Have new checkpoints scored and the page made again while training goes on."""
    try:
        shown = slurm.preview(launch)
    except LlmhpcError as error:
        return f"; {error}"
    return f"; a look at {', '.join(home.name for home in shown)}" if shown else ""


def _config(record: dict[str, Any]) -> Config:
    """The settings of a launch's first point; where and whom to tell are the same for all."""
    return revive(Config, next(iter(record["points"].values())))


def _notify(launch: Path, record: dict[str, Any]) -> str:
    """Tell the user's command (JSON on its standard input) and webhook (POST), once; a failure is only said."""
    notify = _config(record).notify
    if not (notify.command or notify.webhook):
        return ""
    _, steps = runs.plan_of(record)
    about = {"run": launch.stem, "state": record["ended"], "why": record.get("why", "")}
    text = json.dumps(about | {"results": results(steps)})
    try:
        if notify.command:
            subprocess.run(
                notify.command, input=text, text=True, check=True, timeout=NOTIFY_TIMEOUT_S
            )
        if notify.webhook:
            kind = {"Content-Type": "application/json"}
            request = urllib.request.Request(notify.webhook, text.encode(), kind)
            urllib.request.urlopen(request, timeout=NOTIFY_TIMEOUT_S).close()
    except (OSError, subprocess.SubprocessError) as error:  # URLError is an OSError
        return f"notify failed: {error}"
    write_json(launch, record | {"notified": time.time()})
    return "told"


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, also if another tick is at work; 1 with --open if no run is open any more."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.tick", description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=Path("runs"))
    parser.add_argument("--open", action="store_true", help="exit status 1 if no run is open")
    options = parser.parse_args(arguments)
    folder = options.root / runs.LAUNCHES
    if not folder.is_dir():
        print(f"llmhpc: root {options.root}: no launch below it", file=sys.stderr)
        return 2
    with (folder / ".tick.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("another tick is at work")
            return 0
        for line in tick(options.root):
            print(line)
    return int(options.open and not runs.open_ones(options.root))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
