"""Which steps belong together: copies over seeds, and the trainings and evaluations of one data set."""

import json
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from llmhpc.report.charts import PALETTE
from llmhpc.report.upstream import History, Made

VERDICT, SIGNAL = (
    "verdict.json",
    "signal.json",
)  # of a verdict step; its roles are <data>.<number of the copy>
MODEL = "model"  # the role of what is evaluated


def merged(steps: Iterable[Made]) -> list[tuple[Made, list[Made]]]:
    """The steps with those that differ by the seed alone as one: that one, and its copies.

    The one has the inputs of the first, by the roles without the copies' numbers, and the time of all.
    """
    homes: dict[Path, Path] = {}  # of a copy -> of the first
    groups: dict[tuple[str, ...], list[Made]] = {}
    inputs: dict[Path, dict[str, str]] = {}
    for step in steps:
        roles = {_without_number(role): str(homes[path]) for role, path in step.inputs.items()}
        key = (step.name, step.state, json.dumps([step.config, roles], sort_keys=True))
        group = groups.setdefault(key, [])
        group.append(step)
        homes[step.home] = group[0].home
        inputs[step.home] = roles
    return [(_one(group, inputs[group[0].home]), group) for group in groups.values()]


def _one(group: list[Made], inputs: dict[str, str]) -> Made:
    first = group[0]
    together = {"inputs": inputs, "seconds": sum(step.seconds for step in group)}
    return replace(first, record=first.record | together)


def _without_number(role: str) -> str:
    name, _, number = role.rpartition(".")
    return name if number.isdecimal() else role


def by_data(history: History, steps: Iterable[Made]) -> dict[str, list[Made]]:
    """Trainings or evaluations by what a verdict step calls their data, else by the step's name; copies by seed."""
    names = _names(history)
    found: dict[str, list[Made]] = {}
    for step in sorted(steps, key=lambda step: seed(history, step)):
        found.setdefault(names.get(step.home, step.name), []).append(step)
    return {name: found[name] for name in colours(history, found) if name in found}


def colours(history: History, names: Iterable[str]) -> dict[str, str]:
    """Data set -> its colour, the same in all charts; what others are compared with comes after them."""
    pairs = [pair for step in history.with_file(VERDICT) for pair in step.json(VERDICT)]
    compared = [*(pair["a"] for pair in pairs), *(pair["b"] for pair in pairs)]
    every = dict.fromkeys([*compared, *_names(history).values(), *sorted(names)])
    return {name: PALETTE[place % len(PALETTE)] for place, name in enumerate(every)}


def seed(history: History, step: Made) -> int:
    """That of the training that made the model."""
    while (before := history.at(step.inputs.get(MODEL))) is not None:
        step = before
    number: int = step.record.get("seed", 0)
    return number


def title(history: History, step: Made, group: dict[str, list[Made]]) -> str:
    """What tells a step from the others of ``group``, which is by data: the data, and the seed where it has several."""
    name = next(name for name, mine in group.items() if step in mine)
    return name if len(group[name]) == 1 else f"{name}, seed {seed(history, step)}"


def _names(history: History) -> dict[Path, str]:
    """Directory of an evaluation, of its model, and of what that was made of -> what the verdict calls the data."""
    names: dict[Path, str] = {}
    for verdict in history.with_file(SIGNAL):
        for role, path in verdict.inputs.items():
            step = history.at(path)
            while step is not None:
                names.setdefault(step.home, _without_number(role))
                step = history.at(step.inputs.get(MODEL))
    return names
