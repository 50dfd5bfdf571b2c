"""Config in, ordered steps out: names, directories, fingerprints. Touches no disk."""

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass, fields, is_dataclass
from enum import Enum
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

from llmhpc.config import IDENTITY_IF_SET, Config, Stage
from llmhpc.errors import ConfigError

FINGERPRINT_DIGITS = 8


@dataclass(frozen=True)
class Step:
    """One stage of one run with its inputs fixed."""

    name: str
    stage: Stage
    seed: int
    fingerprint: str
    out: Path
    inputs: dict[str, Path]  # role -> directory of the step that plays it


def plan(cfg: Config) -> list[Step]:
    """The steps of a run, each after what it needs.

    Raises ConfigError when stages need each other in a circle, need what is not there, or do not fit.
    """
    copies: dict[str, list[Step]] = {}
    # keys keep their order in a fingerprint: fields have one, and that of rules changes the result
    for name in _order(cfg.stages):
        stage = cfg.stages[name]
        _check(name, stage, cfg.stages)
        needed = {role: copies[need] for role, need in sorted(stage.needs.items())}
        if stage.gathers:
            named = {
                f"{role}.{n}": s for role, steps in needed.items() for n, s in enumerate(steps)
            }
            copies[name] = [_step(cfg, name, cfg.seed, named)]
            continue
        copies[name] = [
            _step(cfg, name, cfg.seed + number, _at(needed, number))
            for number in range(_number_of_copies(name, stage, needed))
        ]
    return [step for steps in copies.values() for step in steps]


def _step(cfg: Config, name: str, seed: int, inputs: dict[str, Step]) -> Step:
    stage = cfg.stages[name]
    seed = seed if stage.seeded else 0
    marks = {role: step.fingerprint for role, step in inputs.items()}
    mark = fingerprint(plain(stage, identity_only=True), marks, seed)
    return Step(
        name=name,
        stage=stage,
        seed=seed,
        fingerprint=mark,
        out=Path(cfg.root).absolute() / f"{name}-{mark}",
        inputs={role: step.out for role, step in inputs.items()},
    )


def _at(needed: dict[str, list[Step]], number: int) -> dict[str, Step]:
    """The inputs of one copy: of each role the copy with the same number, or the only one."""
    return {role: steps[number] if len(steps) > 1 else steps[0] for role, steps in needed.items()}


def _number_of_copies(name: str, stage: Stage, needed: dict[str, list[Step]]) -> int:
    """As many as the stage's own seeds, or as its inputs have.

    Raises ConfigError when these differ, or when the stage does not depend on a seed.
    """
    numbers = {stage.seeds, *(len(steps) for steps in needed.values())} - {1}
    if stage.seeds > 1 and not stage.seeded:
        raise ConfigError(f"stages.{name}.seeds={stage.seeds}: 1, a seed changes nothing here")
    if len(numbers) > 1:
        raise ConfigError(
            f"stages.{name}.seeds={stage.seeds}: its inputs have {', '.join(map(str, sorted(numbers)))}"
            " copies; the same number for all"
        )
    return numbers.pop() if numbers else 1


def fingerprint(identity: dict[str, Any], inputs: dict[str, str], seed: int) -> str:
    """What tells a step from any other: its settings, the fingerprints of its inputs by role, its seed."""
    text = json.dumps({"config": identity, "inputs": inputs, "seed": seed})
    return hashlib.sha256(text.encode()).hexdigest()[:FINGERPRINT_DIGITS]


def union(plans: Iterable[list[Step]]) -> list[Step]:
    """The steps of several points as one graph: what they have in common is there once."""
    return list({step.out: step for steps in plans for step in steps}.values())


def plain(value: Any, *, identity_only: bool = False) -> Any:
    """Dataclasses as plain JSON values; ``identity_only`` leaves out what does not change the result."""
    if is_dataclass(value):
        return {
            f.name: plain(getattr(value, f.name), identity_only=identity_only)
            for f in fields(value)
            if not identity_only or _tells(f.metadata.get("identity", True), getattr(value, f.name))
        }
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, dict):
        return {key: plain(item, identity_only=identity_only) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item, identity_only=identity_only) for item in value]
    return value


def _tells(identity: bool | str, value: Any) -> bool:
    """Whether a field is part of what tells one step from another."""
    return bool(value) if identity == IDENTITY_IF_SET["identity"] else bool(identity)


def _order(stages: dict[str, Stage]) -> list[str]:
    for name, stage in stages.items():
        for role, need in stage.needs.items():
            if need not in stages:
                raise ConfigError(
                    f"stages.{name}.needs.{role}={need}: one of this run's stages, {', '.join(stages)}"
                )
    try:
        graph = {name: set(stage.needs.values()) for name, stage in stages.items()}
        return list(TopologicalSorter(graph).static_order())
    except CycleError as error:
        circle = " -> ".join(reversed(error.args[1]))
        raise ConfigError(f"stages.*.needs: a circle, {circle}; one of them must go") from None


def _check(name: str, stage: Stage, stages: dict[str, Stage]) -> None:
    roles, known = stage.roles, stage.roles | stage.optional_roles()
    for role in stage.needs:
        if known and role not in known:
            raise ConfigError(f"stages.{name}.needs.{role}: {stage.kind} knows {', '.join(known)}")
    for role, meaning in roles.items():
        if role not in stage.needs:
            raise ConfigError(f"stages.{name}.needs.{role} is not set: {meaning}")
    try:
        stage.check_with({role: stages[need] for role, need in stage.needs.items()})
    except ConfigError as error:
        raise ConfigError(f"stages.{name}.{error}") from None
