"""Find and follow a log: python -m llmhpc.logs STEP [RANK] [-f] [--phase NAME] [--gate] [--root DIR] [--run WORDS].

STEP is a stage's name in the newest launch, or a step's directory. Without RANK: a task that failed, or else the one
that began last.
"""

import argparse
import sys
import time
from collections import deque
from pathlib import Path
from typing import TextIO

from llmhpc.errors import ConfigError, denied_in_one_line
from llmhpc.files import read_json
from llmhpc.handoff import artifact, attempts, runs

POLL_S = 0.5


def find(home: Path, rank: int | None, phase: str, *, gate: bool) -> Path:
    """The log of a task's last start, or of the last gate. Raises ConfigError that says what there is."""
    if gate:
        jobs = read_json(home / artifact.JOBS) or {"gates": {}}
        gates = [job for name, job in jobs["gates"].items() if phase in ("", name)]
        logs = [path for job in gates for path in (home / artifact.LOGS / job).glob("*_log.out")]
        if not logs:
            raise ConfigError(f"{home.name}: no gate has run yet")
        return max(logs, key=lambda path: path.stat().st_mtime)
    records = [r for r in attempts.latest(home) if r["rank"] >= 0 and phase in ("", r["phase"])]
    mine = [r for r in records if rank in (None, r["rank"])]
    if not mine:
        began = sorted({r["rank"] for r in records})
        there = f"ranks {began[0]} to {began[-1]} have" if began else "none has"
        raise ConfigError(f"rank {rank}: of {home.name} {there} begun")
    bad = [r for r in mine if r.get("cause", attempts.DONE) != attempts.DONE]
    log = (bad or mine)[-1]["log"]
    if not log or not Path(log).exists():
        raise ConfigError(
            f"{home.name}: this task wrote to no file that is still there ({log or 'a terminal'})"
        )
    return Path(log)


def show(path: Path, lines: int, out: TextIO, *, follow: bool) -> None:
    """Print the end of a file, and what is added to it until the reader has enough."""
    with path.open(errors="replace") as file:
        out.writelines(deque(file, maxlen=lines or None))
        while follow:
            out.flush()
            if not (more := file.read()):
                time.sleep(POLL_S)
            out.write(more)


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 2 if there is no such log."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.logs", description=__doc__)
    parser.add_argument("step")
    parser.add_argument("rank", nargs="?", type=int)
    parser.add_argument("-f", "--follow", action="store_true")
    parser.add_argument("-n", "--lines", type=int, default=100, help="from the end; 0: all")
    parser.add_argument("--phase", default="")
    parser.add_argument("--gate", action="store_true", help="of the gate behind a phase")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    parser.add_argument("--run", default="", metavar="WORDS", help="part of a launch's name")
    options = parser.parse_args(arguments)
    try:
        home = runs.home_of(options.root, options.run, options.step)
        path = find(home, options.rank, options.phase, gate=options.gate)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2
    print(f"==> {path}", file=sys.stderr)
    try:
        show(path, options.lines, sys.stdout, follow=options.follow)
    except (KeyboardInterrupt, BrokenPipeError):
        return 0
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
