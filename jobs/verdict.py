"""Which tasks tell anything, and whether one data set is better than another: from the evaluations of several trainings."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage
from llmhpc.errors import ConfigError
from llmhpc.files import write_json
from llmhpc.task import Task

SCORES = "evaluate"


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """The data sets that are compared: ``needs`` has for each of them its name, and an evaluate step.

    Its copies over seeds are read as <data>.0, <data>.1, ...; those with the same number go together. One data set
    alone is not compared, but its tasks are judged.
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
            raise ConfigError(f"needs: <data>, as in needs.refined={SCORES}")
        for data, stage in played_by.items():
            if not re.fullmatch(r"[\w-]+", data):
                raise ConfigError(f"needs.{data}: letters, digits, _ and - only")
            if stage.kind != SCORES:
                need = self.needs.get(data)
                raise ConfigError(
                    f"needs.{data}={need}: an {SCORES} step, it is of kind {stage.kind}"
                )
        if self.against and self.against not in played_by:
            raise ConfigError(f"against={self.against}: one of {', '.join(sorted(played_by))}")

    def will_write(self, input_bytes: int) -> Footprint:
        """A few tables."""
        return Footprint(1_000_000, 3)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write signal.json, verdict.json where there are two data sets or more, and verdict.md."""
    from llmhpc.evals.judging import runs, signal, tables, verdict

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
