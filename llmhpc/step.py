"""Make the artifact that DIR/step.json asks for. Runs on the node: by submitit, by sbatch, or by hand.

python -m llmhpc.step DIR                 every rank that is missing, one after the other
python -m llmhpc.step DIR PHASE RANK      one task
"""

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from llmhpc import artifact, claim, provenance
from llmhpc.config import Phase, Stage
from llmhpc.errors import ArtifactError, ConfigError, LlmhpcError, StageError
from llmhpc.files import read_json, write_json
from llmhpc.registry import load, revive
from llmhpc.task import Task


def stage_of(home: Path) -> Stage:
    """The settings that the step was ordered with."""
    return revive(Stage, _order(home)["config"])


def run_task(home: str | Path, phase: str, rank: int) -> None:
    """One task: the files of one rank of one phase, then its mark. A no-op if the mark is there.

    A phase of a single rank also runs the gate that stands behind it.
    """
    home = Path(home)
    process = process_index(_order(home)["processes"])
    if not artifact.sealed(home) and not artifact.mark_path(home, phase, rank).exists():
        with Attempt(home, phase, rank, record=process == 0):
            stage = stage_of(home)
            for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
                os.environ.setdefault(name, str(stage.resources.cpus))
            _work(home, stage, phase, rank, process)
    if process == 0 and dict(stage_of(home).phases())[phase] == 1:
        gate(home, phase)


def run_job(home: str | Path, phase: str, rank: int) -> None:
    """``run_task`` as the whole work of a process.

    submitit ignores SIGTERM; a task that goes on while its children end would lose what they had in hand.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    run_task(home, phase, rank)


def gate(home: str | Path, phase: str) -> None:
    """Check every rank of a phase; behind the last phase, seal the artifact.

    Raises ArtifactError when a rank is missing or a file is not what its rank wrote.
    """
    home = Path(home)
    if artifact.sealed(home):
        return
    phases = stage_of(home).phases()
    _gate_note(home, phase).unlink(missing_ok=True)
    try:
        marks = artifact.check_marks(home, phase, dict(phases)[phase])
        if phase == phases[-1].name:
            for name, ranks in phases[:-1]:
                marks += artifact.check_marks(home, name, ranks)
            _seal(home, marks)
    except ArtifactError as error:
        _note_failure(home, phase, str(error))
        raise


def _gate_note(home: Path, phase: str) -> Path:
    """Where a gate that found a phase wanting says so; read like the attempt of a task."""
    return home / artifact.ATTEMPTS / f"{phase}.gate.json"


def _note_failure(home: Path, phase: str, error: str) -> None:
    now = time.time()
    entry = {"phase": phase, "rank": -1, "begin": now, "end": now, "cause": "error", "error": error}
    write_json(_gate_note(home, phase), entry | {"log": _log_path(), "host": socket.gethostname()})


def remaining(home: Path, stage: Stage) -> list[tuple[Phase, list[int]]]:
    """The phases that are not done, each with its missing ranks."""
    if artifact.sealed(home):
        return []
    missing = [(p, artifact.missing_ranks(home, p.name, p.ranks)) for p in stage.phases()]
    return [(phase, ranks) for phase, ranks in missing if ranks]


def process_index(processes: int) -> int:
    """Which process of a multi-process task this is: torchrun's, submitit's or Slurm's number."""
    if processes > 1:
        for name in ("RANK", "SUBMITIT_LOCAL_GLOBALID", "SLURM_PROCID"):
            if name in os.environ:
                return int(os.environ[name])
    return 0


class Attempt:
    """A record of one start of one task: attempts/<phase>-<rank>-<n>.json, written at begin and end."""

    def __init__(self, home: Path, phase: str, rank: int, *, record: bool) -> None:
        stem = f"{phase}-{rank:05d}"
        number = len(list((home / artifact.ATTEMPTS).glob(f"{stem}-*.json")))
        self.path = home / artifact.ATTEMPTS / f"{stem}-{number:03d}.json"
        self.on = record
        self.entry: dict[str, Any] = {
            "phase": phase,
            "rank": rank,
            "begin": time.time(),
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "born": claim.born(os.getpid()),
            "job": os.environ.get("SLURM_JOB_ID", ""),
            "log": _log_path(),
        }

    def __enter__(self) -> None:
        if self.on:
            write_json(self.path, self.entry)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if not self.on:
            return
        end = {"end": time.time(), "cause": "done"}
        if error is not None:
            message = " ".join(str(error).split()) or type(error).__name__
            known = isinstance(error, LlmhpcError)
            end |= {
                "cause": "error",
                "error": message if known else f"{type(error).__name__}: {message}",
            }
        write_json(self.path, self.entry | end)


def _work(home: Path, stage: Stage, phase: str, rank: int, process: int) -> None:
    order = _order(home)
    inputs = {role: Path(path) for role, path in order["inputs"].items()}
    for role, path in inputs.items():
        if not artifact.sealed(path):
            raise ArtifactError(f"input {role}: {path}/{artifact.MANIFEST} is not there")
    task = Task(
        phase=phase,
        rank=rank,
        ranks=dict(stage.phases())[phase],
        seed=order["seed"],
        home=home,
        process=process,
    )
    out = home if stage.in_place else _scratch(home, phase, rank)
    counts = load("stage", stage.kind).run(stage, inputs, out, task)
    if process != 0:
        return
    if counts.get("documents_in") and not counts.get("documents"):
        raise StageError(
            f"rank {rank} read {counts['documents_in']} documents and forwarded none: {counts}"
        )
    artifact.place(None if stage.in_place else out, home, phase=phase, rank=rank, counts=counts)
    if not stage.in_place:
        shutil.rmtree(out)


def _scratch(home: Path, phase: str, rank: int) -> Path:
    """An empty folder that no other start of this task uses."""
    who = f"{socket.gethostname()}-{os.getpid()}"
    out = home / artifact.SCRATCH / f"{phase}-{rank:05d}-{who}"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    return out


def _seal(home: Path, marks: list[dict[str, Any]]) -> None:
    marked = {name: entry for mark in marks for name, entry in mark["files"].items()}
    files = {name: marked[name] for name in sorted(marked) if Path(name).parts[0] != artifact.WORK}
    if strays := sorted(set(artifact.output_names(home)) - set(marked)):
        raise ArtifactError(f"{home}: {', '.join(strays[:5])} belong to no rank; remove them")
    attempts = [read_json(path) for path in sorted((home / artifact.ATTEMPTS).glob("*.json"))]
    started = min(a["begin"] for a in attempts)
    finished = max(a.get("end", a["begin"]) for a in attempts)
    order = _order(home)
    order.pop("identity")
    write_json(
        home / artifact.MANIFEST,
        order
        | {
            "counts": artifact.add_up([mark["counts"] for mark in marks]),
            "files": files,
            "started": started,
            "finished": finished,
            "seconds": round(finished - started, 3),
            "task_seconds": round(sum(a.get("end", a["begin"]) - a["begin"] for a in attempts), 3),
            "host": socket.gethostname(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
        },
    )
    for leftover in (artifact.WORK, artifact.SCRATCH, artifact.PROGRESS):
        shutil.rmtree(home / leftover, ignore_errors=True)


def _order(home: Path) -> dict[str, Any]:
    order = read_json(home / artifact.STEP)
    if order is None:
        raise ArtifactError(f"{home}/{artifact.STEP} is not there: not a step's directory")
    return order


def _log_path() -> str:
    """Where this process writes its output, if it is a file."""
    try:
        target = Path(f"/proc/{os.getpid()}/fd/2").readlink()
    except OSError:
        return ""
    return str(target) if target.is_file() else ""


def main(arguments: list[str]) -> int:
    """By hand: one task, or everything that is missing. Exit status 0, 1 failed, 2 called wrongly."""
    if len(arguments) not in (1, 3):
        print(__doc__, file=sys.stderr)
        return 2
    home = Path(arguments[0])
    try:
        _check_processes(stage_of(home).processes())
        if len(arguments) == 3:
            run_task(home, arguments[1], int(arguments[2]))
        else:
            _run_missing(home)
    except ConfigError as error:
        print(f"{home.name}: {error}", file=sys.stderr)
        return 2
    except LlmhpcError as error:
        print(f"{home.name}: {error}", file=sys.stderr)
        return 1
    return 0


def _run_missing(home: Path) -> None:
    stage = stage_of(home)
    for phase in stage.phases():
        for rank in artifact.missing_ranks(home, phase.name, phase.ranks):
            run_task(home, phase.name, rank)
        if process_index(stage.processes()) == 0:
            gate(home, phase.name)


def _check_processes(wanted: int) -> None:
    started = int(os.environ.get("WORLD_SIZE") or os.environ.get("SLURM_NTASKS") or 1)
    if wanted > 1 and started != wanted:
        raise ConfigError(
            f"this step is made of {wanted} processes and was started as {started}:"
            f" torchrun --nproc-per-node={wanted} -m llmhpc.step DIR, or srun --ntasks={wanted}"
        )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
