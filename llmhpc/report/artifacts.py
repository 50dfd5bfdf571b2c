"""Section: where everything is, how each step was set, and what made it."""

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Artifacts and settings"
FRAMEWORK_SETTINGS = ("needs",)  # shown as inputs already


@dataclass(frozen=True, kw_only=True)
class Card:
    """One step: its files by folder, and its settings, one key and value each."""

    step: Made
    here: bool  # the report itself
    folders: list[tuple[str, int, int]]  # folder or file, files, bytes
    settings: list[tuple[str, str]]
    inputs: list[tuple[str, Made | None]]  # role, the step that plays it


def values(history: History, limits: Limits) -> dict[str, Any]:
    """A card for each step, and the versions of packages that they were made with."""
    here = history.steps[-1]
    cards = [
        Card(
            step=step,
            here=step is here,
            folders=_folders(step),
            settings=list(_flat(step.config)),
            inputs=[(role, history.at(path)) for role, path in sorted(step.inputs.items())],
        )
        for step in history.steps
    ]
    return {"cards": cards, "made": history.made, "versions": _versions(history)}


def _folders(step: Made) -> list[tuple[str, int, int]]:
    """Files of one folder together, for folders two levels deep."""
    sums: dict[str, list[int]] = defaultdict(list)
    for name, entry in step.files.items():
        parts = name.split("/")
        sums["/".join(parts[:2]) + "/" if len(parts) > 2 else _top(parts)].append(entry["bytes"])
    return [(name, len(sizes), sum(sizes)) for name, sizes in sorted(sums.items())]


def _top(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else parts[0] + "/"


def _flat(config: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as dotted keys, in the order of the fields."""
    found = []
    for key, value in config.items():
        if not prefix and key in FRAMEWORK_SETTINGS:
            continue
        if isinstance(value, dict) and value:
            found += _flat(value, f"{prefix}{key}.")
        elif isinstance(value, list) and any(isinstance(item, dict) for item in value):
            for number, item in enumerate(value):
                found += _flat({str(number): item}, f"{prefix}{key}.")
        else:
            found.append((f"{prefix}{key}", _text(value)))
    return found


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    if value is None or value == {}:
        return "none"
    return str(value).lower() if isinstance(value, bool) else str(value) or '""'


def _versions(history: History) -> list[tuple[str, list[tuple[str, str]]]]:
    """Package -> its version, or the versions with the steps that had them if steps differ."""
    table: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for step in history.made:
        for package, version in step.record["versions"].items():
            if step.name not in table[package][version]:  # copies over seeds have one name
                table[package][version].append(step.name)
    return [
        (package, [(version, ", ".join(steps)) for version, steps in found.items()])
        for package, found in sorted(table.items())
    ]
