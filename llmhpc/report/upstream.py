"""Every step that led to the report: found by walking from manifest to manifest."""

import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json
from llmhpc.handoff.artifact import MANIFEST, RANKS, STEP, output_names, so_far

DONE, GOING, HERE, GONE = "done", "not whole yet", "this page", "removed"


@dataclass(frozen=True, kw_only=True)
class Made:
    """One step as its manifest tells it.

    Of one that is still being made (state ``GOING``) there is its order and what it has so far. Of a step whose directory somebody has removed since, only the name is left (state ``GONE``). Of the
    report itself there is no manifest yet (state ``HERE``).
    """

    name: str
    home: Path
    state: str = DONE
    record: dict[str, Any] = field(default_factory=dict)  # the manifest, or of the report its order

    @property
    def kind(self) -> str:
        return self.record.get("kind", self.name)

    @property
    def anchor(self) -> str:
        """Unique in a page: copies over seeds have one name."""
        return self.home.name

    @property
    def inputs(self) -> dict[str, Path]:
        """Role -> directory of the step that plays it."""
        return {role: Path(path) for role, path in self.record.get("inputs", {}).items()}

    @property
    def counts(self) -> dict[str, Any]:
        return self.record.get("counts", {})

    @property
    def config(self) -> dict[str, Any]:
        return self.record.get("config", {})

    @property
    def files(self) -> dict[str, dict[str, Any]]:
        """Path in the step's directory -> {"bytes", "sha256"}."""
        return self.record.get("files", {})

    @property
    def seconds(self) -> float:
        """From the first start of a task to the last end."""
        return self.record.get("seconds", 0.0)

    @property
    def task_seconds(self) -> float:
        """Time of all tasks together."""
        return self.record.get("task_seconds", self.seconds)

    @cached_property
    def bytes(self) -> int:
        return sum(entry["bytes"] for entry in self.files.values())

    @cached_property
    def tasks(self) -> int:
        """Array tasks of all phases that made it."""
        return len(list((self.home / RANKS).glob("*.json")))

    def json(self, name: str) -> Any:
        """The content of one of its JSON files, or None if it has no such file."""
        return read_json(so_far(self.home) / name) if name in self.files else None

    def json_lines(self, name: str) -> list[dict[str, Any]]:
        """The lines of one of its JSON-lines files; none if it has no such file."""
        if name not in self.files:
            return []
        try:
            lines = (so_far(self.home) / name).read_text().splitlines(keepends=True)
            if self.state == GOING and lines and not lines[-1].endswith("\n"):
                lines.pop()  # just being written
            return [json.loads(line) for line in lines if line.strip()]
        except (json.JSONDecodeError, FileNotFoundError) as error:
            raise ArtifactError(
                f"{self.home / name}: not the JSON lines that it was ({error})"
            ) from None


@dataclass(frozen=True, kw_only=True)
class History:
    """A run: its title, and its steps, each after its inputs; the report itself is the last."""

    title: str
    steps: tuple[Made, ...]

    @property
    def made(self) -> list[Made]:
        """The steps whose manifest is there."""
        return [step for step in self.steps if step.state == DONE]

    def with_file(self, name: str) -> list[Made]:
        """The steps that hold a file of that name."""
        return [s for s in self.steps if s.state in (DONE, GOING) and name in s.files]

    @property
    def going(self) -> list[Made]:
        """The steps that are still being made: the page shows what there was when it was written."""
        return [step for step in self.steps if step.state == GOING]

    def at(self, home: Path | None) -> Made | None:
        """The step in that directory."""
        return next((step for step in self.steps if step.home == home), None)

    def with_count(self, *names: str) -> list[Made]:
        """The steps that counted all of these."""
        return [step for step in self.made if all(name in step.counts for name in names)]


def gather(home: Path, inputs: dict[str, Path], *, title: str) -> History:
    """The steps upstream of ``inputs``, and the report itself in ``home``."""
    found: dict[str, Made] = {}
    order = read_json(home / STEP) or {}
    order["inputs"] = {role: str(_walk(path, found)) for role, path in inputs.items()}
    name = order.get("name", _name(home))
    itself = Made(name=name, home=home, state=HERE, record=order)
    return History(title=title, steps=(*found.values(), itself))


def _walk(home: Path, found: dict[str, Made]) -> Path:
    """Add the step in ``home`` after everything it came from; returns the directory that it is known by.

    A copy of it below another root has the same name, with its fingerprint, and is the same step.
    """
    if home.name in found:
        return found[home.name].home
    record, order = read_json(home / MANIFEST), read_json(home / STEP)
    if record is None and order is None:
        found[home.name] = Made(name=_name(home), home=home, state=GONE)
        return home
    state = GOING if record is None else DONE
    if record is None:
        here = so_far(home)
        there = [name for name in output_names(here) if (here / name).exists()]
        sizes = {name: {"bytes": (here / name).stat().st_size} for name in there}
        record = order | {"files": sizes}
    inputs = sorted(record.get("inputs", {}).items())
    record["inputs"] = {role: str(_walk(Path(path), found)) for role, path in inputs}
    found[home.name] = Made(name=record["name"], home=home, state=state, record=record)
    return home


def _name(home: Path) -> str:
    """The stage's name of <stage>-<fingerprint>."""
    return home.name.rpartition("-")[0] or home.name
