"""What Slurm knows of jobs and of its own settings: one call for any number of jobs."""

import shutil
import subprocess
import time
from collections.abc import Iterable
from typing import NamedTuple

from llmhpc.errors import StageError

# array job, task, state, nodes, end: one line for each task of an array
FORMAT = "%F|%K|%T|%N|%e"
MANY_IDS = 1000  # more would not fit on a command line: the whole queue is asked for instead
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT")
WAITING = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "SPECIAL_EXIT")
UNUSABLE = ("down", "drain", "fail", "error", "unknown", "inval")  # states of nodes


class Job(NamedTuple):
    """A job or a task of an array, as Slurm sees it."""

    state: str  # Slurm's word, as in NODE_FAIL
    nodes: str
    end: float  # seconds since the epoch; of a job that has not ended, when it has to; 0 if unknown

    @property
    def unfinished(self) -> bool:
        return self.state in RUNNING or self.state in WAITING


UNKNOWN = Job("RUNNING", "", 0.0)  # what a job is taken for while nobody can say


def jobs(ids: Iterable[str]) -> dict[str, Job]:
    """Those of the jobs that the controller remembers: "17", or "17_3" for a task of an array.

    Raises:
        StageError: the controller does not answer; nobody may take that for "all have ended".
    """
    wanted = sorted(set(ids))
    if not wanted:
        return {}
    some = [f"--jobs={','.join(wanted)}"] if len(wanted) <= MANY_IDS else []
    call = _run("squeue", "--noheader", "--array", "--states=all", f"--format={FORMAT}", *some)
    if call.returncode and "Invalid job id" not in call.stderr:
        raise StageError(f"squeue: {' '.join(call.stderr.split()) or 'failed'}")
    known = set(wanted)
    found = {}
    for line in call.stdout.splitlines():
        job, task, state, nodes, end = line.split("|")
        if job in known:
            key = job if task == "N/A" else f"{job}_{task}"
            found[key] = Job(state, nodes, _epoch(end))
    return found


def forgotten(ids: Iterable[str]) -> dict[str, Job]:
    """The same from the accounting database, for jobs that the controller has dropped; none without one."""
    wanted = set(ids)
    arrays = sorted({job.split("_")[0] for job in wanted})  # with every task of theirs
    found: dict[str, Job] = {}
    for first in range(0, len(arrays), MANY_IDS):
        rows = _accounted(arrays[first : first + MANY_IDS])
        found |= {job: known for job, known in rows if job in wanted}
    return found


def ended_start(job: str) -> Job | None:
    """How the last start of a job that was put back into the queue ended; None where nobody says."""
    ended = [known for key, known in _accounted([job], "--duplicates") if key == job and known.end]
    return ended[-1] if ended else None


def _accounted(ids: list[str], *more: str) -> list[tuple[str, Job]]:
    """What the accounting database says of jobs, in the order of their starts."""
    if not shutil.which("sacct"):
        return []
    columns = "--format=JobID,State,NodeList,End"
    call = _run("sacct", "-X", "-n", "-P", columns, f"--jobs={','.join(ids)}", *more)
    rows = (line.split("|") for line in call.stdout.splitlines()) if not call.returncode else ()
    return [
        (job, Job(state.split()[0], nodes, _epoch(end))) for job, state, nodes, end in rows if state
    ]


def cpu_seconds(tasks: Iterable[str]) -> float | None:
    """Core-seconds that jobs or array tasks held, all their starts together; None without accounting."""
    wanted = set(tasks)
    if not wanted or not shutil.which("sacct"):
        return None
    ids = sorted({task.split("_")[0] for task in wanted})
    total = 0.0
    for first in range(0, len(ids), MANY_IDS):
        some = f"--jobs={','.join(ids[first : first + MANY_IDS])}"
        # --duplicates: a job that was put back into the queue has a line for each start
        call = _run("sacct", "-X", "-n", "-P", "--duplicates", "--format=JobID,CPUTimeRAW", some)
        if call.returncode:
            return None
        for line in call.stdout.splitlines():
            task, seconds = line.split("|")
            total += float(seconds or 0) if task in wanted else 0.0
    return total


def cancel(ids: Iterable[str], *, waiting_only: bool = False) -> None:
    """Take jobs off the queue; those that have ended already are no error.

    Raises:
        StageError: some that have not are another user's.
    """
    which = ["--state=PENDING"] if waiting_only else []
    wanted = sorted(set(ids))
    for first in range(0, len(wanted), MANY_IDS):
        some = wanted[first : first + MANY_IDS]
        if "ermission denied" not in _run("scancel", *which, *some).stderr:
            continue
        if left := sorted(job for job, known in jobs(some).items() if known.unfinished):
            raise StageError(f"jobs {', '.join(left)} are not this user's to cancel")


def requeue(job: str) -> bool:
    """Put a job that runs back into the queue, which kills it; False where this node cannot do that."""
    return bool(shutil.which("scontrol")) and _run("scontrol", "requeue", job).returncode == 0


def of_home(home: str, user: str) -> list[str]:
    """Ids of a user's unfinished jobs for one step's directory, which they have as their comment."""
    call = _run("squeue", "--noheader", f"--user={user}", "--format=%F|%k")
    rows = (line.split("|", 1) for line in call.stdout.splitlines())
    return sorted({job for job, comment in rows if comment == home})


def nodes(partition: str | None) -> list[set[str]]:
    """The nodes that can take jobs, of each of the partitions (as in "a,b"; None: of the site's default one)."""
    some = [f"--partition={partition}"] if partition else []
    found: dict[str, set[str]] = {}
    for line in _run("sinfo", "-h", "-N", "-o", "%N|%P|%T", *some).stdout.splitlines():
        node, name, state = line.split("|")
        if (partition or name.endswith("*")) and not state.startswith(UNUSABLE):
            found.setdefault(name, set()).add(node)
    return list(found.values())


def max_array_size() -> int | None:
    """The largest number of tasks in one array; None where this node cannot ask.

    That is Slurm's MaxArraySize: the top index is one less, and the first one is 0.
    """
    if not shutil.which("scontrol"):
        return None
    for line in _run("scontrol", "show", "config").stdout.splitlines():
        if line.startswith("MaxArraySize"):
            return int(line.split("=")[1])
    return None


def _epoch(stamp: str) -> float:
    try:
        return time.mktime(time.strptime(stamp, "%Y-%m-%dT%H:%M:%S"))
    except ValueError:  # N/A, Unknown
        return 0.0


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)
