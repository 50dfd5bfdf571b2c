"""Make the artifact that DIR/step.json asks for. Runs on the node: by submitit, by sbatch, or by hand.

python -m llmhpc.step DIR                 every rank that is missing, one after the other
python -m llmhpc.step DIR PHASE RANK      one task
python -m llmhpc.step DIR preview         what can be made of it while its input is being made, in DIR/preview
"""

import os
import shutil
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

from llmhpc import scheduler
from llmhpc.config import Phase, Stage
from llmhpc.errors import ArtifactError, ConfigError, Interrupted, LlmhpcError, StageError
from llmhpc.files import read_json, write_json
from llmhpc.handoff import artifact, attempts, ledger, provenance
from llmhpc.handoff.attempts import Attempt
from llmhpc.planning.plan import fingerprint, plain
from llmhpc.planning.registry import load, revive
from llmhpc.task import Task

LAST_S = 60  # Slurm ends all processes of a job before that
EDITED = "LLMHPC_EDITED_STEP"  # environment variable: take a step.json as it is
INTERRUPTED = 75  # exit status "try again" of sysexits.h


def stage_of(home: Path) -> Stage:
    """The settings that the step was ordered with."""
    return revive(Stage, _order(home)["config"])


def run_task(home: str | Path, phase: str, rank: int) -> None:
    """One task: the files of one rank of one phase, then its mark. A no-op if the mark is there."""
    home = Path(home)
    if artifact.sealed(home) or artifact.mark_path(home, phase, rank).exists():
        return
    _check_order(home)
    stage, processes = stage_of(home), _order(home)["processes"]
    process = process_index(processes)
    attempt = Attempt(home, phase, rank, stage.resources, (process, processes))
    with attempt as record:
        set_environment(stage)
        task = Task(
            phase=phase,
            rank=rank,
            ranks=dict(stage.phases())[phase],
            seed=_order(home)["seed"],
            home=home,
            process=process,
            attempt=record,
            finish=attempt.finish,
        )
        _work(home, stage, task)


def set_environment(stage: Stage) -> None:
    """What the packages that a task imports ask for when they are loaded."""
    for name in ("OMP_NUM_THREADS", "RAYON_NUM_THREADS"):
        os.environ.setdefault(name, str(stage.resources.cpus))
    # Arrow's own pool keeps what was freed: 25 MB more for every 60 MB of text that was tokenized
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "system")


def run_job(home: str | Path, phase: str, rank: int, requeue: bool = False) -> None:
    """``run_task`` as the whole work of a process that submitit started.

    One that was warned and has saved goes back into the queue if ``requeue``, else it ends badly, and what is behind
    it takes over.
    """
    _signals_of_a_job()
    try:
        run_task(home, phase, rank)
    except Interrupted as interrupted:
        print(f"{Path(home).name}: {interrupted}", file=sys.stderr, flush=True)
        wanted = requeue and interrupted.warned
        if _leaves_last(home) or (wanted and scheduler.requeue(attempts.job_key())):
            time.sleep(LAST_S)
        sys.exit(INTERRUPTED)
    except Exception:
        if _leaves_last(home):
            time.sleep(LAST_S)
        raise


def _leaves_last(home: str | Path) -> bool:
    """With the first process that leaves Slurm ends all of them, and process 0 has something to write down."""
    return bool(attempts.job_key()) and process_index(_order(Path(home))["processes"]) > 0


def _signals_of_a_job() -> None:
    """submitit ignores SIGTERM; a task that goes on while its children end would lose what they had in hand. The
    warning ahead of the time limit means nothing to a task that cannot save: it may still come to its end.
    """
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)


def has_news(home: Path) -> bool:
    """True if an input that is still being made holds more than when the step last looked at it."""
    if artifact.sealed(home) or not (home / artifact.STEP).exists():
        return False
    early, inputs = stage_of(home).early, _inputs(home)
    seen = [record["begin"] for record in attempts.by_rank(home, artifact.PREVIEW).get(0, [])]
    files = [
        artifact.so_far(path) / early[role]
        for role, path in inputs.items()
        if early.get(role) and not artifact.sealed(path)
    ]
    rest = [path for role, path in inputs.items() if role not in early]
    there = bool(files) and all(f.exists() for f in files) and all(map(artifact.sealed, rest))
    return there and max(f.stat().st_mtime for f in files) > max(seen, default=0.0)


def preview(home: str | Path) -> bool:
    """Run a step on what an input already holds, into its ``preview``; False if there is nothing new to see."""
    home = Path(home)
    if not has_news(home):
        return False
    _check_order(home)
    stage = stage_of(home)
    with Attempt(home, artifact.PREVIEW, 0, stage.resources, (0, 1)):
        out = _scratch(home, artifact.PREVIEW, 0)
        task = Task(phase=artifact.PREVIEW, rank=0, ranks=1, seed=_order(home)["seed"], home=home)
        load("stage", stage.kind).run(stage, _inputs(home), out, task)
        shutil.rmtree(home / artifact.PREVIEW, ignore_errors=True)
        out.rename(home / artifact.PREVIEW)
    return True


def preview_all(homes: list[str]) -> None:
    """The same for several steps, each after what it needs, as the work of one job."""
    _signals_of_a_job()
    for home in homes:
        preview(home)


def gate(home: str | Path, phase: str) -> None:
    """Check every rank of a phase; behind the last phase, seal the artifact.

    Raises ArtifactError when a rank is missing or a file is not what its rank wrote.
    """
    home = Path(home)
    if artifact.sealed(home):
        return
    _check_order(home)
    phases = stage_of(home).phases()
    _gate_note(home, phase).unlink(missing_ok=True)
    try:
        marks = _checked_marks(home, phase, dict(phases)[phase])
        write_json(home / artifact.PROGRESS / f"{phase}{artifact.PASSED}", {"time": time.time()})
        if phase == phases[-1].name:
            for name, ranks in phases[:-1]:
                marks += _checked_marks(home, name, ranks)
            _seal(home, marks)
    except ArtifactError as error:
        note_failure(home, phase, str(error))
        raise


def _checked_marks(home: Path, phase: str, ranks: int) -> list[dict[str, Any]]:
    unmarked = set(artifact.missing_ranks(home, phase, ranks))
    try:
        return artifact.check_marks(home, phase, ranks)
    except ArtifactError as error:
        for rank in set(artifact.missing_ranks(home, phase, ranks)) - unmarked:
            attempts.note(home, phase, rank, attempts.DAMAGED, error=str(error))
        raise


def _gate_note(home: Path, phase: str) -> Path:
    """Where a gate that found a phase wanting says so; read like the attempt of a task."""
    return home / artifact.ATTEMPTS / f"{phase}.gate.json"


def note_failure(home: Path, phase: str, error: str) -> None:
    """Say why a phase does not go on."""
    now = time.time()
    entry = {"phase": phase, "rank": -1, "begin": now, "end": now, "cause": "error", "error": error}
    host = socket.gethostname()
    write_json(_gate_note(home, phase), entry | {"log": attempts.log_path(), "host": host})


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


def _work(home: Path, stage: Stage, task: Task) -> None:
    phase, rank = task.phase, task.rank
    inputs = _inputs(home)
    for role, path in inputs.items():
        if not artifact.sealed(path):
            raise ArtifactError(f"input {role}: {path}/{artifact.MANIFEST} is not there")
    out = home if stage.in_place else _scratch(home, phase, rank)
    counts = load("stage", stage.kind).run(stage, inputs, out, task)
    if task.process != 0:
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
    attempts.close(home, {})
    records = attempts.every(home)
    started = min(record["begin"] for record in records)
    finished = max(record["end"] for record in records if "end" in record)
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
            "task_seconds": round(sum(r.get("end", r["begin"]) - r["begin"] for r in records), 3),
            "cost": ledger.of_records(records)._asdict(),
            "host": socket.gethostname(),
            "versions": provenance.versions(),
            "commit": provenance.commit(),
            "code": str(Path(__file__).parent),
        },
    )
    (home / artifact.PREVIEW_JOB).unlink(missing_ok=True)
    for leftover in (artifact.WORK, artifact.SCRATCH, artifact.PROGRESS, artifact.PREVIEW):
        shutil.rmtree(home / leftover, ignore_errors=True)


def _order(home: Path) -> dict[str, Any]:
    order = read_json(home / artifact.STEP)
    if order is None:
        raise ArtifactError(f"{home}/{artifact.STEP} is not there: not a step's directory")
    return order


def _inputs(home: Path) -> dict[str, Path]:
    return {role: Path(path) for role, path in _order(home)["inputs"].items()}


def _check_order(home: Path) -> None:
    """Raise ArtifactError if step.json was edited since the launcher wrote it, unless that is asked for."""
    order = _order(home)
    inputs = {role: Path(path).name.rpartition("-")[2] for role, path in order["inputs"].items()}
    wanted = fingerprint(plain(stage_of(home), identity_only=True), inputs, order["seed"])
    if order["fingerprint"] != wanted and os.environ.get(EDITED) != "1":
        raise ArtifactError(
            f"{home}/{artifact.STEP} was edited: fingerprint={order['fingerprint']}, its settings have {wanted};"
            f" launch with the change, or set {EDITED}=1 for an artifact that is not what its name says"
        )


def main(arguments: list[str]) -> int:
    """By hand: one task, or everything that is missing. Exit status 0, 1 failed, 2 called wrongly."""
    if len(arguments) not in (1, 3) and arguments[1:] != [artifact.PREVIEW]:
        print(__doc__, file=sys.stderr)
        return 2
    home = Path(arguments[0])
    try:
        _check_processes(stage_of(home).processes())
        if len(arguments) == 3:
            run_task(home, arguments[1], int(arguments[2]))
        elif len(arguments) == 2:
            print(home / artifact.PREVIEW if preview(home) else f"{home.name}: nothing new to see")
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
