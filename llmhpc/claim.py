"""One launcher at a time makes a step: an exclusive claim file, with who holds it and through which jobs."""

import fcntl
import getpass
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llmhpc.artifact import CLAIM, JOBS
from llmhpc.files import read_json, write_json

OTHER_HOST_GRACE_S = 600  # a claim of a launcher on another host that has submitted nothing yet


def take(home: Path) -> bool:
    """Claim the step for this process; False if somebody alive has it."""
    home.mkdir(parents=True, exist_ok=True)
    with _only_one(home):
        if alive(home):
            return False
        write_json(
            home / CLAIM,
            {
                "host": socket.gethostname(),
                "pid": os.getpid(),
                "born": born(os.getpid()),
                "user": getpass.getuser(),
                "time": time.time(),
            },
        )
        (home / JOBS).unlink(missing_ok=True)
        return True


def release(home: Path) -> None:
    """Give the claim up."""
    (home / CLAIM).unlink(missing_ok=True)


def alive(home: Path) -> bool:
    """True if somebody is making the step: jobs in the queue, or a launcher that is at it."""
    claim = read_json(home / CLAIM)
    if claim is None:
        return False
    jobs = read_json(home / JOBS)
    if jobs is not None and jobs["submitted"]:
        return bool(queued(jobs["ids"]))
    if claim["host"] == socket.gethostname():
        return born(claim["pid"]) == claim["born"]
    return time.time() - claim["time"] < OTHER_HOST_GRACE_S


def record_jobs(home: Path, ids: list[str], last: str, *, submitted: bool) -> None:
    """Note the Slurm jobs of a step; ``last`` is the one that what comes after has to wait for."""
    write_json(home / JOBS, {"ids": ids, "last": last, "submitted": submitted})


def queued(ids: list[str]) -> dict[str, str]:
    """Slurm's state and reason of those jobs that have not ended; one call for all."""
    if not ids:
        return {}
    call = subprocess.run(
        ["squeue", "--noheader", "--jobs", ",".join(ids), "--format", "%A %T %r", "--states=all"],
        check=False,
        capture_output=True,
        text=True,
    )
    ended = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
    rows = (line.split(maxsplit=2) for line in call.stdout.splitlines())
    return {row[0]: " ".join(row[1:]) for row in rows if row and not row[1].startswith(ended)}


@contextmanager
def _only_one(home: Path) -> Iterator[None]:
    with (home / ".claim.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def born(pid: int) -> str:
    """Start time of a process, which a later process of the same number does not share; "" if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
