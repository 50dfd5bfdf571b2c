"""Which tasks tell anything, and whether one data set is better than another: from the evaluations of several trainings."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage
from llmhpc.errors import ConfigError
from llmhpc.files import write_json
from llmhpc.task import Task

ROLE = re.compile(r"(.+)\.(\d+)")  # <data>.<copy number>
SCORES = "evaluate"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """The data sets that are compared. ``needs`` has for each training <data>.<copy number>, and its evaluate step.

    Copies with the same number go together: needs.raw.0 with needs.refined.0. One data set alone is not compared, but
    its tasks are judged.
    """

    gathers: ClassVar[bool] = True  # reads every copy of a training that is made several times

    kind: str = "verdict"
    against: str = ""  # the data set that the others are compared with; default: the first by name

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, there is one verdict")

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError unless inputs are evaluate steps, named so that copies can be told."""
        if not played_by:
            raise ConfigError(f"needs: <data>.<copy number>, as in needs.refined.0={SCORES}")
        for role, stage in played_by.items():
            if not ROLE.fullmatch(role):
                raise ConfigError(f"needs.{role}: <data>.<copy number>, as in refined.0")
            if stage.kind != SCORES:
                need = self.needs.get(role)
                raise ConfigError(
                    f"needs.{role}={need}: an {SCORES} step, it is of kind {stage.kind}"
                )
        copies = _copies(played_by)
        if self.against and self.against not in copies:
            raise ConfigError(f"against={self.against}: one of {', '.join(sorted(copies))}")
        base = self.against or min(copies)
        for data, numbers in copies.items():
            if not numbers & copies[base]:
                raise ConfigError(f"needs.{data}.*: a copy with the number of one of {base}.*")

    def will_write(self, input_bytes: int) -> Footprint:
        """A few tables."""
        return Footprint(1_000_000, 3)


def _copies(roles: Iterable[str]) -> dict[str, set[str]]:
    """Data set -> numbers of its copies."""
    found: dict[str, set[str]] = {}
    for role in roles:
        data, _, number = role.rpartition(".")
        found.setdefault(data, set()).add(number)
    return found


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write signal.json, verdict.json where there are two data sets or more, and verdict.md."""
    from llmhpc.evals import runs, signal, tables, verdict

    read = []
    for done, (role, folder) in enumerate(sorted(inputs.items())):
        task.progress(done, len(inputs), "evaluations", role)
        data, _, number = role.rpartition(".")
        read.append(runs.read(folder, data, int(number)))
    found = signal.signals(read)
    write_json(out / "signal.json", [vars(one) for one in found])
    pairs = verdict.verdicts(read, signal.in_mean(found), cfg.against)
    if pairs:
        write_json(out / "verdict.json", pairs)
    (out / "verdict.md").write_text(tables.verdict(pairs, found))
    task.progress(len(inputs), len(inputs), "evaluations", pairs[0]["sentence"] if pairs else "")
    return {
        "evaluations": len(inputs),
        "tasks": len(found),
        "tasks_kept": sum(one.keep for one in found),
        **{f"verdict_{pair['a']}_against_{pair['b']}": _short(pair) for pair in pairs},
    }


def _short(pair: dict[str, Any]) -> str:
    return pair["mean"]["verdict"] if pair["mean"] else "not decided"
