"""Runs every task of a stage in this process and prints the most memory that it held, in MB.

    python stage_memory.py SETTINGS INPUTS HOME    the first two as JSON; inputs: role -> step

Without what is mapped from files, which the kernel can drop: a thread asks it a hundred times in a second.
"""

import json
import re
import sys
import threading
import time
from pathlib import Path

from llmhpc.config import Stage
from llmhpc.planning.registry import load, revive
from llmhpc.step import set_environment
from llmhpc.task import Task

peak = 0.0


def watch() -> None:
    global peak
    while True:
        held = re.search(r"RssAnon:\s+(\d+) kB", Path("/proc/self/status").read_text())
        peak = max(peak, int(held[1]) / 1000)
        time.sleep(0.01)


def main() -> None:
    threading.Thread(target=watch, daemon=True).start()
    stage, inputs = revive(Stage, json.loads(sys.argv[1])), json.loads(sys.argv[2])
    set_environment(stage)
    home, roles = Path(sys.argv[3]), {role: Path(step) for role, step in inputs.items()}
    for phase in stage.phases():
        for rank in range(phase.ranks):
            out = home / "scratch"
            out.mkdir(parents=True)
            task = Task(phase=phase.name, rank=rank, ranks=phase.ranks, seed=0, home=home)
            load("stage", stage.kind).run(stage, roles, out, task)
            for path in [path for path in out.rglob("*") if path.is_file()]:
                target = home / path.relative_to(out)
                target.parent.mkdir(parents=True, exist_ok=True)
                path.rename(target)
            for folder in sorted(out.rglob("*"), reverse=True):
                folder.rmdir()
            out.rmdir()
    print(peak)


if __name__ == "__main__":
    main()
