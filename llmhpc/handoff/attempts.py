"""The ledger's raw material: one file for each start of each task, with how it ended and what it used.

attempts/<phase>-<rank>-<number>.json  written at the begin, again at the end; one that was killed is closed by others
attempts/<phase>.gate.json             why a gate did not let the phase pass
"""

import errno
import os
import socket
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

from llmhpc import scheduler
from llmhpc.config import Resources
from llmhpc.errors import HangError, Interrupted, LlmhpcError, NotFiniteError, PeerLostError
from llmhpc.files import create_json, read_json, write_json
from llmhpc.handoff import artifact
from llmhpc.handoff.claim import born, job_ids

DONE = "done"
FULL = (errno.ENOSPC, errno.EDQUOT)
FULL_S = 30  # for room to say how a task ended
PEER_S = 3  # for a process that failed to say so
# Slurm's words for the ends that it makes; a task that ended in another way and said nothing was killed
BY_SLURM = {
    "TIMEOUT": "timeout",
    "DEADLINE": "timeout",
    "PREEMPTED": "preempted",
    "NODE_FAIL": "node_fail",
    "BOOT_FAIL": "node_fail",
    "OUT_OF_MEMORY": "out_of_memory",
    "CANCELLED": "cancelled",
}
KILLED, REQUEUED, DAMAGED = "killed", "requeued", "damaged"

Record = dict[str, Any]


class Attempt:
    """One start of one task, recorded at begin and end by process 0 of those that it is made of."""

    def __init__(
        self, home: Path, phase: str, rank: int, resources: Resources, place: tuple[int, int]
    ) -> None:
        process, processes = place
        self.home, self.process, self.on = home, process, process == 0
        self.stem = f"{phase}-{rank:05d}"
        self.path = Path()
        self.entry: Record = {
            "phase": phase,
            "rank": rank,
            "begin": time.time(),
            "host": socket.gethostname(),
            "node": os.environ.get("SLURMD_NODENAME", socket.gethostname()),
            "pid": os.getpid(),
            "born": born(os.getpid()),
            "job": job_key(),
            "log": log_path(),
            "cpus": resources.cpus * processes,
            "gpus": resources.gpus_per_node * resources.nodes,
            "devices": os.environ.get("CUDA_VISIBLE_DEVICES", ""),  # of process 0
            "mem_gb": resources.mem_gb,
        }

    def __enter__(self) -> Path | None:
        """The path of the record."""
        if not self.on:
            return None
        if self.entry["job"]:
            self._look_at_queue(self.entry["job"])
        number = len(self._starts())
        while True:  # two starts of one task at the same moment get two numbers
            self.path = self.home / artifact.ATTEMPTS / f"{self.stem}-{number:03d}.json"
            if create_json(self.path, self.entry):
                return self.path
            number += 1

    def _look_at_queue(self, job: str) -> None:
        """Close an earlier start in this job, which Slurm put back into the queue; note since when this one waited."""
        ready = _ready_since(self.home, job)
        for path in self._starts():
            record = read_json(path)
            if record["job"] == job:
                if "end" not in record:
                    _close_requeued(path, record)
                ready = max(ready, read_json(path)["end"])
        if ready:
            self.entry["ready"] = min(ready, self.entry["begin"])

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.finish(error)

    def finish(self, error: BaseException | None) -> None:
        """Note how it ended. Called by what ends a process that cannot leave by itself, too."""
        if not self.on:
            if error is not None and not isinstance(error, PeerLostError | Interrupted):
                note = _peer_note(self.entry, self.home, self.process)
                write_json(note, {"time": time.time()} | _end(error))
            return
        end = {"end": time.time()} | _end(error) | _saved(self.entry, self.home)
        if isinstance(error, PeerLostError):
            time.sleep(PEER_S)
            end |= _end_of_a_peer(self.entry, self.home)
        self._note_end(end)

    def _note_end(self, end: Record) -> None:
        """Write how it ended, and wait for room on a disk that is full: somebody may be at work on that."""
        until = time.time() + FULL_S
        while True:
            try:
                return write_json(self.path, self.entry | end)
            except OSError as error:
                if error.errno not in FULL or time.time() > until:
                    raise
                time.sleep(1)

    def _starts(self) -> list[Path]:
        return list((self.home / artifact.ATTEMPTS).glob(f"{self.stem}-*.json"))


def _end(error: BaseException | None) -> Record:
    """The cause and the message of an end."""
    if error is None:
        return {"cause": DONE}
    if isinstance(error, KeyboardInterrupt):
        return {"cause": "cancelled"}
    message = " ".join(str(error).split()) or type(error).__name__
    known = isinstance(error, LlmhpcError)
    return {
        "cause": _cause(error),
        "error": message if known else f"{type(error).__name__}: {message}",
    }


def _cause(error: BaseException) -> str:
    if isinstance(error, Interrupted):
        return error.cause
    if isinstance(error, OSError) and error.errno in FULL:
        return "disk_full"
    causes = {
        NotFiniteError: "nan",
        HangError: "hang",
        PeerLostError: KILLED,
        MemoryError: "out_of_memory",
    }
    return next((cause for kind, cause in causes.items() if isinstance(error, kind)), "error")


def every(home: Path) -> list[Record]:
    """Every attempt at a task of the step, in the order of their beginnings."""
    found = [r for path in _paths(home) if (r := read_json(path))]
    return sorted(found, key=lambda record: record["begin"])


def latest(home: Path) -> list[Record]:
    """The last attempt of every task, and the notes of gates, in the order of their beginnings."""
    last = {(record["phase"], record["rank"]): record for record in every(home)}
    notes = [r for path in (home / artifact.ATTEMPTS).glob("*.gate.json") if (r := read_json(path))]
    return sorted([*last.values(), *notes], key=lambda record: record["begin"])


def by_rank(home: Path, phase: str) -> dict[int, list[Record]]:
    """Rank -> its attempts at a phase, the first one first."""
    ranks: dict[int, list[Record]] = defaultdict(list)
    for record in every(home):
        if record["phase"] == phase:
            ranks[record["rank"]].append(record)
    return ranks


def close(home: Path, tasks: dict[tuple[str, int], str]) -> None:
    """Give every task that Slurm ended its cause: those that left an open record, and those that never began.

    ``tasks``: (phase, rank) -> Slurm's name of the task, of the tasks that have left no mark.
    """
    records = {(r["phase"], r["rank"], r["job"]) for r in every(home)}
    left = _open(home)
    keys = {*tasks.values(), *(record["job"] for _, record in left if record["job"])}
    known = scheduler.jobs({key.split("_")[0] for key in keys})
    if missing := keys - set(known):
        known |= scheduler.forgotten(missing)
    for path, record in left:
        job = known.get(record["job"])
        if not (job.unfinished if job else _runs_here(record)):
            _close(path, record, _word(job), job.end if job else 0.0)
    for path, record in _ended(home, "preempted"):  # so it seemed to a task that got a SIGTERM
        job = known.get(record["job"])
        if job and job.state == "CANCELLED":
            write_json(path, record | {"cause": "cancelled"})
    for (phase, rank), key in tasks.items():
        job = known.get(key)
        # a task that never had a node did not fail: it was taken off the queue
        if job and job.nodes and not job.unfinished and (phase, rank, key) not in records:
            note(home, phase, rank, _word(job), job=key, node=job.nodes)


def note(home: Path, phase: str, rank: int, cause: str, **more: Any) -> None:
    """Record the end of an attempt that could not do it itself; it used no time that we know of."""
    now = time.time()
    record = {"phase": phase, "rank": rank, "begin": now, "end": now, "cause": cause, "host": ""}
    record |= {"node": "", "pid": 0, "born": "", "job": "", "log": "", "cpus": 0, "gpus": 0} | more
    number = len(list((home / artifact.ATTEMPTS).glob(f"{phase}-{rank:05d}-*.json")))
    while not create_json(
        home / artifact.ATTEMPTS / f"{phase}-{rank:05d}-{number:03d}.json", record
    ):
        number += 1


def _ready_since(home: Path, job: str) -> float:
    """When a job of the step was submitted and its inputs and earlier phases were there, all of it.

    Seconds since the epoch; 0 for a job that is none of those that were submitted for the step.
    """
    jobs = read_json(home / artifact.JOBS)
    if job.split("_")[0] not in job_ids(jobs):
        return 0.0
    inputs = read_json(home / artifact.STEP)["inputs"].values()
    paths = [Path(path) / artifact.MANIFEST for path in inputs]
    paths += (home / artifact.PROGRESS).glob(f"*{artifact.PASSED}")
    return max([jobs["time"], *(path.stat().st_mtime for path in paths if path.exists())])


def job_key() -> str:
    """Slurm's name of the job or array task that this process is part of; "" outside."""
    array, task = (os.environ.get(f"SLURM_ARRAY_{name}") for name in ("JOB_ID", "TASK_ID"))
    return f"{array}_{task}" if array else os.environ.get("SLURM_JOB_ID", "")


def log_path() -> str:
    """Where this process writes its output, if it is a file."""
    try:
        target = Path(f"/proc/{os.getpid()}/fd/2").readlink()
    except OSError:
        return ""
    return str(target) if target.is_file() else ""


def _paths(home: Path) -> list[Path]:
    folder = home / artifact.ATTEMPTS
    return [path for path in folder.glob("*.json") if not path.name.endswith(".gate.json")]


def _ended(home: Path, cause: str) -> list[tuple[Path, Record]]:
    found = [(path, r) for path in _paths(home) if (r := read_json(path))]
    return [(path, record) for path, record in found if record.get("cause") == cause]


def _open(home: Path) -> list[tuple[Path, Record]]:
    found = [(path, r) for path in _paths(home) if (r := read_json(path))]
    return [(path, record) for path, record in found if "end" not in record]


def _close(path: Path, record: Record, cause: str, end: float) -> None:
    home = path.parents[1]
    kept = _saved(record, home)
    said = _end_of_a_peer(record, home) if cause == KILLED else {}
    # Slurm counts whole seconds
    end = max(end, kept.get("saved", 0.0), record["begin"])
    write_json(path, record | {"end": end, "cause": cause} | said | kept)


def _peer_note(record: Record, home: Path, process: int | str) -> Path:
    stem = f"{record['phase']}-{record['rank']:05d}"
    return home / artifact.PROGRESS / f"{stem}.process-{process}.json"


def _end_of_a_peer(record: Record, home: Path) -> Record:
    """What another process said that ended on its own; nothing if it was killed."""
    pattern = _peer_note(record, home, "*")
    notes = [read_json(path) for path in pattern.parent.glob(pattern.name)]
    mine = [note for note in notes if note["time"] >= record["begin"]]
    return {key: mine[0][key] for key in ("cause", "error")} if mine else {}


def _close_requeued(path: Path, record: Record) -> None:
    """Of a start of this job: why Slurm put it back into the queue is known where there is accounting."""
    ended = scheduler.ended_start(record["job"])
    if ended is None or ended.end < int(record["begin"]):
        _close(path, record, REQUEUED, time.time())
    else:
        _close(path, record, BY_SLURM.get(ended.state, REQUEUED), ended.end)


def _saved(record: Record, home: Path) -> Record:
    """When the attempt last made sure of its work, if it did."""
    entry = read_json(
        home / artifact.PROGRESS / f"{record['phase']}-{record['rank']:05d}.saved.json"
    )
    return {"saved": entry["time"]} if entry and entry["time"] >= record["begin"] else {}


def _runs_here(record: Record) -> bool:
    """True for a process of this machine, started without Slurm, that is still at it."""
    here = record["host"] == socket.gethostname() and not record["job"]
    return here and born(record["pid"]) == record["born"]


def _word(job: scheduler.Job | None) -> str:
    return BY_SLURM.get(job.state, KILLED) if job else KILLED
