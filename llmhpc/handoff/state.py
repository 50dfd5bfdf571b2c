"""How far each step is, and why it would run: read from its directory, never from a running launcher."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhpc.config import Phase
from llmhpc.files import read_json
from llmhpc.handoff import artifact, attempts, claim
from llmhpc.planning.plan import Step, plain

DONE, RUNNING, QUEUED, FAILED, PARTIAL, TO_RUN = (
    "done",
    "running",
    "queued",
    "failed",
    "partial",
    "to run",
)
REASONS = 3


@dataclass(frozen=True)
class State:
    """State of one step: a word, a line about it, the error and the log if it failed."""

    word: str
    note: str = ""
    log: str = ""


def state_of(home: Path, phases: list[Phase], queue: claim.Queue | None = None) -> State:
    """The state of the step in ``home``; ``queue`` as in ``claim.alive``."""
    if artifact.sealed(home):
        return State(DONE)
    names = {
        phase.name for phase in phases
    }  # a look at what there is so far says nothing of the step itself
    records = [record for record in attempts.latest(home) if record["phase"] in names]
    if claim.alive(home, queue):
        begun = records or not read_json(home / artifact.JOBS)
        if begun:
            return State(RUNNING, progress_line(home, phases))
        early = artifact.so_far(home)
        return State(QUEUED, "" if early == home else f"so far: {early}")
    for record in sorted(
        records, key=lambda record: record["rank"]
    ):  # a gate's note first: it names all
        if "error" in record:
            log = next(
                (r["log"] for r in records if "error" in r and r["rank"] >= 0), record["log"]
            )
            return State(FAILED, record["error"], log)
    for record in reversed(records):
        if record.get("cause") != attempts.DONE:
            what = record.get("cause", attempts.KILLED)
            return State(
                FAILED, f"rank {record['rank']} of {record['phase']}: {what}", record["log"]
            )
    return State(PARTIAL, progress_line(home, phases)) if records else State(TO_RUN)


def progress_line(home: Path, phases: list[Phase]) -> str:
    """Phase, tasks done, and how far the running tasks are with the time left."""
    for phase in phases:
        missing = artifact.missing_ranks(home, phase.name, phase.ranks)
        if missing:
            return _phase_line(home, phase, missing, len(phases) > 1)
    return "checking"


def _phase_line(home: Path, phase: Phase, missing: list[int], named: bool) -> str:
    done = phase.ranks - len(missing)
    parts = [phase.name] if named else []
    if phase.ranks > 1:
        parts.append(f"{done}/{phase.ranks} tasks")
    seen = {r: p for r in missing if (p := _progress(home, phase.name, r))}
    if not seen:
        return ", ".join(parts)
    first = next(iter(seen.values()))
    if phase.ranks == 1:
        parts.append(f"{first['done']:,.0f}/{first['total']:,.0f} {first['unit']}")
    share = (done + sum(p["done"] / max(p["total"], 1e-9) for p in seen.values())) / phase.ranks
    parts.append(f"{share:.0%}")
    begun, before = _this_go(home, phase)
    if begun and share - before > 0.01:
        left = (time.time() - begun) * (1 - share) / (share - before)
        parts.append(f"{_clock(left)} left")
    if first.get("note"):
        parts.append(first["note"])
    return ", ".join(parts)


def _this_go(home: Path, phase: Phase) -> tuple[float, float]:
    """When the present launcher's first task of the phase began, and the share that was done before it."""
    claimed = (read_json(home / artifact.CLAIM) or {"time": 0.0})["time"]
    begun = [r for r in attempts.latest(home) if r["phase"] == phase.name and r["rank"] >= 0]
    mine = [r["begin"] for r in begun if r["begin"] >= claimed]
    done_before = sum(r.get("cause") == attempts.DONE for r in begun if r["begin"] < claimed)
    return min(mine, default=0.0), done_before / phase.ranks


def _progress(home: Path, phase: str, rank: int) -> dict[str, Any] | None:
    return read_json(home / artifact.PROGRESS / f"{phase}-{rank:05d}.json")


def _clock(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes:02d}:{rest:02d}"


def reason_to_run(step: Step, remade: set[Path]) -> str:
    """Why a step that is not done would run: the field or the input that changed, or that it is new.

    ``remade``: the directories of this plan that would be made.
    """
    if (step.out / artifact.STEP).exists():
        return "began before, not whole"
    best: list[str] | None = None
    for path in sorted(step.out.parent.glob(f"{step.name}-*/{artifact.STEP}")):
        other = read_json(path)
        if other and other.get("name") == step.name:
            changes = _changes(other, step, remade)
            if best is None or len(changes) < len(best):
                best = changes
    if best is None:
        return "new"
    more = f" and {len(best) - REASONS} more" if len(best) > REASONS else ""
    return "; ".join(best[:REASONS]) + more


def _changes(other: dict[str, Any], step: Step, remade: set[Path]) -> list[str]:
    found = [
        f"{key}: {old} -> {new}"
        for key, old, new in _differences(
            other["identity"], plain(step.stage, identity_only=True), ""
        )
    ]
    if other["seed"] != step.seed:
        found.append(f"seed: {other['seed']} -> {step.seed}")
    for role, path in step.inputs.items():
        if other["inputs"].get(role) != str(path):
            name = path.name.rpartition("-")[0]
            found.append(f"input {role} changed ({name}{' runs' if path in remade else ''})")
    return found


def _differences(old: Any, new: Any, key: str) -> list[tuple[str, Any, Any]]:
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [k for k in {**old, **new} if old.get(k) != new.get(k)]
        prefix = f"{key}." if key else ""
        return [d for k in keys for d in _differences(old.get(k), new.get(k), f"{prefix}{k}")]
    return [(key, old, new)]
