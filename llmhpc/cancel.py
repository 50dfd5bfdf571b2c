"""End a run for good: python -m llmhpc.cancel [WORDS] [--root DIR]. The newest launch, or the newest whose name holds WORDS.

What is whole stays, and so do steps that another launch wants; launching again goes on from there.
"""

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from llmhpc import scheduler
from llmhpc.errors import LlmhpcError, denied_in_one_line
from llmhpc.files import only_one, read_json, write_json
from llmhpc.handoff import artifact, claim, runs


def cancel(launch: Path) -> tuple[list[Path], list[Path]]:
    """Mark a launch as ended and take its jobs off the queue.

    Returns the steps that were on their way, and those that stay so because another launch wants them.
    """
    with only_one(launch.parent / runs.SUBMIT_LOCK):  # no gate submits anything between the two
        record = runs.read(launch)
        runs.end(launch, "cancelled")
        wanted = {home for other in runs.open_ones(launch.parents[1]) for home in runs.homes(other)}
        going = [home for home in runs.homes(launch) if claim.alive(home)]
        ended = [home for home in going if home not in wanted]
        for home in ended:
            try:
                _end(home)
            except LlmhpcError:
                write_json(launch, record)  # it goes on
                raise
    return ended, [home for home in going if home in wanted]


def _end(home: Path) -> None:
    """Raises StageError if its jobs are another user's."""
    if jobs := read_json(home / artifact.JOBS):
        look = read_json(home / artifact.PREVIEW_JOB)
        scheduler.cancel(claim.job_ids(jobs) + ([look["job"]] if look else []))
        claim.release(home)
    else:
        _interrupt(home)


def _interrupt(home: Path) -> None:
    """Ask the launcher that makes a step on this machine to stop."""
    holder = read_json(home / artifact.CLAIM)
    if holder["host"] == socket.gethostname() and claim.born(holder["pid"]) == holder["born"]:
        os.kill(
            holder["pid"], signal.SIGTERM
        )  # one that a script put in the background ignores SIGINT


@denied_in_one_line
def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 if Slurm does not answer, 2 if there is no such run."""
    parser = argparse.ArgumentParser(prog="python -m llmhpc.cancel", description=__doc__)
    parser.add_argument("run", nargs="?", default="", metavar="WORDS", help="part of its name")
    parser.add_argument("--root", type=Path, default=Path("runs"))
    options = parser.parse_args(arguments)
    try:
        launch = runs.find(options.root, options.run)
        ended, kept = cancel(launch)
    except LlmhpcError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return 2 if isinstance(error, ValueError) else 1
    print(f"{launch.stem} cancelled: {_names(ended) or 'nothing was running'}")
    if kept:
        others = ", ".join(path.stem for path in runs.open_ones(options.root))
        print(f"goes on, since another run wants it ({others}): {_names(kept)}")
    return 0


def _names(homes: list[Path]) -> str:
    return ", ".join(home.name for home in homes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
