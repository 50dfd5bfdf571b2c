"""The record of a launch, from which the run can be planned again without the command line.

launches/<time>-<process>-<name>.json  name, time, points (each with its settings), steps, and how it ended
"""

import os
import time
from pathlib import Path
from typing import Any

from llmhpc.config import Cluster, Config
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.files import read_json, write_json
from llmhpc.handoff.artifact import STEP
from llmhpc.planning.plan import Step, plain, plan, union
from llmhpc.planning.registry import revive

LAUNCHES = "launches"
SUBMIT_LOCK = ".submit.lock"  # beside the records: who submits or withdraws jobs of a root holds it


def write(points: dict[str, Config], steps: list[Step]) -> Path:
    """Record a launch below its root; ``points``: what tells a point from the others -> its settings.

    Launching what is open already is no other run: its record is taken.
    """
    first = next(iter(points.values()))
    root = Path(first.root).absolute()
    # a job has another working directory
    settings = {label: plain(cfg) | {"root": str(root)} for label, cfg in points.items()}
    for path in open_ones(root):
        if read(path)["points"] == settings:
            return path
    stamp = time.strftime("%Y%m%d-%H%M%S")
    path = root / LAUNCHES / f"{stamp}-{os.getpid()}-{first.name}.json"
    made = {label: {step.out for step in plan(cfg)} for label, cfg in points.items()}
    copies = {out: seed for cfg in points.values() for out, seed in _seeds(cfg).items()}
    record = {
        "name": first.name,
        "time": time.time(),
        "points": settings,
        "steps": [
            {
                "name": s.name,
                "out": str(s.out),
                "points": [p for p in made if s.out in made[p]],
                "seed": copies.get(s.out),
            }
            for s in steps
        ],
    }
    write_json(path, record)
    return path


def _seeds(cfg: Config) -> dict[Path, int]:
    """The steps that one run makes several times -> the seed that each copy stands for."""
    homes: dict[str, list[Path]] = {}
    for step in plan(cfg):
        homes.setdefault(step.name, []).append(step.out)
    several = [copies for copies in homes.values() if len(copies) > 1]
    return {out: cfg.seed + number for copies in several for number, out in enumerate(copies)}


def read(path: Path) -> dict[str, Any]:
    """A record. Raises ArtifactError if it is not there."""
    record = read_json(path)
    if record is None:
        raise ArtifactError(f"{path}: not there, or not the record of a launch")
    return record


def all_of(root: Path) -> list[Path]:
    """The records below a root, the newest last."""
    folder = root / LAUNCHES  # glob would pass over a folder that may not be read
    return (
        sorted(p for p in folder.iterdir() if p.suffix == ".json" and p.name[0] != ".")
        if folder.is_dir()
        else []
    )


def find(root: Path, words: str) -> Path:
    """The newest record whose name holds ``words``; "" is the newest of all. Raises ConfigError."""
    found = [path for path in all_of(root) if words in path.stem]
    if not found:
        known = ", ".join(path.stem for path in all_of(root)[-3:])
        better = f"the last: {known}" if known else "python -m llmhpc.launch makes one"
        what = f"run {words}" if words else f"root {root}"
        raise ConfigError(f"{what}: no launch below it; {better}")
    return found[-1]


def end(path: Path, how: str, why: str = "") -> None:
    """Note that nothing is to be submitted for this launch any more: done, failed or cancelled."""
    write_json(path, read(path) | {"ended": how, "why": why, "end": time.time()})


def plan_of(record: dict[str, Any]) -> tuple[Cluster, list[Step]]:
    """Where a recorded run goes and its steps, each once and after what it needs."""
    points = [revive(Config, settings) for settings in record["points"].values()]
    return points[0].cluster, union([plan(cfg) for cfg in points])


def open_ones(root: Path) -> list[Path]:
    """The launches that have not ended, oldest first."""
    return [path for path in all_of(root) if "ended" not in read(path)]


def homes(launch: Path) -> list[Path]:
    """The directories of a launch's steps."""
    return [Path(step["out"]) for step in read(launch)["steps"]]


def home_of(root: Path, words: str, step: str) -> Path:
    """A step's directory by its stage's name, or by its own. Raises ConfigError."""
    if (Path(step) / STEP).exists():
        return Path(step).absolute()
    entries = read(find(root, words))["steps"]
    found = [e for e in entries if step in (e["name"], Path(e["out"]).name)]
    if len(found) == 1:
        return Path(found[0]["out"])
    several = ", ".join(Path(e["out"]).name + _copy(e) for e in found)
    names = ", ".join(dict.fromkeys(entry["name"] for entry in entries))
    raise ConfigError(
        f"step {step}: " + (f"one of {several}" if found else f"this run has {names}")
    )


def _copy(entry: dict[str, Any]) -> str:
    """Which copy of a step it is, where there are several."""
    seed = entry.get("seed")
    return "" if seed is None else f" (seed {seed})"
