"""One launcher at a time makes a step: an exclusive claim file, with who holds it and through which jobs."""

import os
import pwd
import socket
import time
from pathlib import Path
from typing import Any

from llmhpc import scheduler
from llmhpc.files import only_one, read_json, write_json
from llmhpc.handoff.artifact import CLAIM, JOBS

RECENT_S = 60  # jobs noted since then may not be in what Slurm said a moment ago
OTHER_HOST_GRACE_S = 600  # a claim of a launcher on another host that has submitted nothing yet

Queue = dict[str, scheduler.Job]


def take(home: Path) -> bool:
    """Claim the step for this process; False if somebody alive has it."""
    home.mkdir(parents=True, exist_ok=True)
    with only_one(home / ".claim.lock"):
        if alive(home):
            return False
        hold(home)
        return True


def hold(home: Path, *, since: float | None = None) -> None:
    """Write the claim of this process, for a caller that knows that nobody alive has the step.

    ``since`` is when a person last asked for the step: what failed before that does not count against it.
    """
    now = time.time()
    who = {"host": socket.gethostname(), "pid": os.getpid(), "born": born(os.getpid())}
    write_json(home / CLAIM, who | {"user": _me(), "time": now, "since": since or now})
    (home / JOBS).unlink(missing_ok=True)


def release(home: Path) -> None:
    """Give the claim up."""
    (home / CLAIM).unlink(missing_ok=True)


def holder(home: Path) -> str:
    """Who has the step, in words."""
    claim = read_json(home / CLAIM) or {"user": "nobody", "host": "-", "pid": 0}
    return f"{claim['user']} on {claim['host']}, process {claim['pid']}"


def user(home: Path) -> str:
    """Whose the step is; this user if it is nobody's."""
    claim = read_json(home / CLAIM)
    return claim["user"] if claim else _me()


def other_user(home: Path) -> str:
    """Who has the step, if that is somebody else than this user; else ""."""
    return holder(home) if user(home) != _me() else ""


def _me() -> str:
    """The user that this process runs as, whatever its variables say."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def alive(home: Path, queue: Queue | None = None) -> bool:
    """True if somebody is making the step: jobs in the queue, or a launcher that is at it.

    ``queue`` is what Slurm said of the jobs of all steps, for a caller that asks about many.
    """
    claim = read_json(home / CLAIM)
    if claim is None:
        return False
    jobs = read_json(home / JOBS)
    if jobs is not None and jobs["submitted"]:
        return _queued(home, jobs, queue)
    if claim["host"] == socket.gethostname():
        return born(claim["pid"]) == claim["born"]
    return time.time() - claim["time"] < OTHER_HOST_GRACE_S


def _queued(home: Path, jobs: dict[str, Any], queue: Queue | None) -> bool:
    """True if one of the jobs has not ended; also if a gate put others in their place while Slurm was asked."""
    while True:
        known = scheduler.jobs(job_ids(jobs)) if queue is None else queue
        if any(job in known and known[job].unfinished for job in task_keys(jobs)):
            return True
        path = home / JOBS
        again = read_json(path)
        if again is None or not again["submitted"]:
            return True  # just being submitted
        if again == jobs and (queue is None or time.time() - path.stat().st_mtime > RECENT_S):
            return False
        jobs, queue = again, None


def job_ids(jobs: dict[str, Any] | None) -> list[str]:
    """Every Slurm job that jobs.json names; an array counts as one."""
    if not jobs:
        return []
    return [part["job"] for part in jobs["tasks"]] + [*jobs["gates"].values(), *jobs["rescues"]]


def task_keys(jobs: dict[str, Any]) -> list[str]:
    """The same with the tasks of an array one by one, as Slurm names them."""
    return [key for part in jobs["tasks"] for key in tasks_of(part).values()] + [
        *jobs["gates"].values(),
        *jobs["rescues"],
    ]


def tasks_of(part: dict[str, Any]) -> dict[int, str]:
    """Rank -> Slurm's name of its task; it never changes once the array is submitted."""
    if len(part["ranks"]) == 1:
        return {part["ranks"][0]: part["job"]}
    return {rank: f"{part['job']}_{index}" for index, rank in enumerate(part["ranks"])}


def born(pid: int) -> str:
    """Start time of a process, which a later process of the same number does not share; "" if it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    fields = stat.rpartition(")")[2].split()
    return "" if fields[0] == "Z" else fields[19]
