"""One directory per step: step.json says what to make, marks say which ranks are done, manifest.json that it is whole.

step.json  claim.json  jobs.json  logs/  attempts/  progress/  ranks/  work/  preview/  <output files>  manifest.json
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from llmhpc.errors import ArtifactError
from llmhpc.files import files_below, read_json, sha256, write_json
from llmhpc.planning.plan import Step, plain

STEP, MANIFEST, CLAIM, JOBS = "step.json", "manifest.json", "claim.json", "jobs.json"
# what can be seen of a step while its input is being made, and the job that makes it
PREVIEW, PREVIEW_JOB = "preview", "preview.json"
LOGS, ATTEMPTS, PROGRESS, RANKS, WORK, SCRATCH = (
    "logs",
    "attempts",
    "progress",
    "ranks",
    "work",
    "scratch",
)
PASSED = ".passed"  # end of a name: progress/<phase>.passed is there once the gate behind a phase is through
SHOWN = 20  # ranks or faults of a message
OURS = {
    STEP,
    MANIFEST,
    CLAIM,
    JOBS,
    PREVIEW,
    PREVIEW_JOB,
    LOGS,
    ATTEMPTS,
    PROGRESS,
    RANKS,
    WORK,
    SCRATCH,
}


def sealed(home: Path) -> bool:
    """True once the artifact is whole."""
    return (home / MANIFEST).exists()


def so_far(home: Path) -> Path:
    """Where the files of a step lie: in its directory, or in what can be seen of it while it is not whole."""
    early = home / PREVIEW
    return early if early.is_dir() and not sealed(home) else home


def order(step: Step) -> None:
    """Write what the step is to make; the node reads nothing else."""
    if (
        step.out / STEP
    ).exists():  # same directory, same fingerprint: only where it runs may differ
        old = read_json(step.out / STEP)
        if old["fingerprint"] != step.fingerprint or old["name"] != step.name:
            raise ArtifactError(f"{step.out}/{STEP} belongs to another step, {old['name']}")
    write_json(
        step.out / STEP,
        {
            "name": step.name,
            "kind": step.stage.kind,
            "fingerprint": step.fingerprint,
            "seed": step.seed,
            "processes": step.stage.processes(),
            "config": plain(step.stage),
            "identity": plain(step.stage, identity_only=True),
            "inputs": {role: str(path) for role, path in step.inputs.items()},
        },
    )


def mark_path(home: Path, phase: str, rank: int) -> Path:
    """The mark that one rank of one phase leaves when its files are in place."""
    return home / RANKS / f"{phase}-{rank:05d}.json"


def missing_ranks(home: Path, phase: str, ranks: int) -> list[int]:
    """The ranks of a phase that have left no mark."""
    folder = home / RANKS
    there = {path.name for path in folder.glob(f"{phase}-*.json")} if folder.exists() else set()
    return [rank for rank in range(ranks) if mark_path(home, phase, rank).name not in there]


def place(
    scratch: Path | None, home: Path, *, phase: str, rank: int, counts: dict[str, Any]
) -> None:
    """Move a rank's finished files into the step's directory, then mark the rank as done.

    Without ``scratch`` the rank has worked in place, and every output file is its own.
    """
    names = output_names(home) if scratch is None else map(_relative(scratch), files_below(scratch))
    files = {}
    for name in names:
        path = (scratch or home) / name
        files[name] = {"bytes": path.stat().st_size, "sha256": sha256(path)}
        if scratch is not None:
            (home / name).parent.mkdir(parents=True, exist_ok=True)
            path.replace(home / name)
    write_json(
        mark_path(home, phase, rank),
        {"phase": phase, "rank": rank, "counts": counts, "files": files},
    )


def check_marks(home: Path, phase: str, ranks: int) -> list[dict[str, Any]]:
    """The marks of a phase, after checking that every file they name is there, whole and unchanged.

    A rank with a damaged file loses its mark, so that it is made again. Raises ArtifactError that lists the ranks
    that are missing, or says of damaged ones what is wrong.
    """
    if missing := missing_ranks(home, phase, ranks):
        raise ArtifactError(
            f"{home.name}: {_listed(missing)} of {ranks} of phase {phase} are not done"
        )
    marks, damage = [], []
    for rank in range(ranks):
        path = mark_path(home, phase, rank)
        try:
            marks.append(_checked_mark(home, path))
        except ArtifactError as error:
            damage.append(str(error))
            path.unlink()
    if damage:
        raise ArtifactError("; ".join(damage[:SHOWN]))
    return marks


def _checked_mark(home: Path, path: Path) -> dict[str, Any]:
    try:
        mark = read_json(path)
    except ValueError:
        raise ArtifactError(f"{path} is damaged") from None
    for name, expected in mark["files"].items():
        check_file(home / name, expected)
    return mark


def _listed(ranks: list[int]) -> str:
    more = f" and {len(ranks) - SHOWN} more" if len(ranks) > SHOWN else ""
    return f"ranks {ranks[:SHOWN]}{more}"


def check_file(path: Path, expected: dict[str, Any]) -> None:
    """Raise ArtifactError unless the file has the recorded size and sha256."""
    if not path.exists():
        raise ArtifactError(f"{path} is not there")
    if (size := path.stat().st_size) != expected["bytes"]:
        raise ArtifactError(f"{path} has {size} bytes, not {expected['bytes']}")
    if sha256(path) != expected["sha256"]:
        raise ArtifactError(f"{path} differs from the file that its rank wrote (sha256)")


def output_names(home: Path) -> list[str]:
    """The files of the artifact itself, without the framework's; relative to ``home``, sorted."""
    names = map(_relative(home), files_below(home))
    return [n for n in names if Path(n).parts[0] not in OURS and not Path(n).name.startswith(".")]


def add_up(parts: list[dict[str, Any]]) -> dict[str, Any]:
    """Counts of several ranks as one: numbers are added, nested tables merged; text must agree."""
    total: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            if isinstance(value, dict):
                total[key] = add_up([total.get(key, {}), value])
            elif isinstance(value, int | float):
                total[key] = total.get(key, 0) + value
            elif total.setdefault(key, value) != value:
                raise ArtifactError(f"count {key}: ranks disagree, {total[key]} and {value}")
    return total


def _relative(folder: Path) -> Callable[[Path], str]:
    return lambda path: str(path.relative_to(folder))
