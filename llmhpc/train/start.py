"""A training that goes on from another one's checkpoint: which one it is, and whether both can be one training.

Weights, the optimizer's state, the place in the data and the count of steps go on; the learning rate is that of the
new schedule. So a training with decay=constant can be continued, or branched into falls (arXiv:2404.06395) from any
of its checkpoints. Torch is not imported: the launcher looks here, too.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.errors import ConfigError
from llmhpc.files import read_json
from llmhpc.models import Model
from llmhpc.train.settings import Schedule

SOURCES = ("tokens", "documents")  # the roles of what is read
MANIFEST = "manifest.json"


class Start(NamedTuple):
    """A train step's directory and one of its steps; 0: its last."""

    home: Path
    step: int = 0

    def checkpoint(self) -> Path:
        """The folder of the checkpoint. Raises ConfigError if there is none."""
        folder = self.home / "checkpoints"
        there = sorted(int(path.parent.name) for path in folder.glob("[0-9]*/state.json"))
        if not there:
            raise ConfigError(f"start: {self.home} has no checkpoints; a train step's directory")
        step = self.step
        listed = f"one of {', '.join(map(str, there))}"
        if not step and not (self.home / MANIFEST).exists():
            raise ConfigError(f"start_step=0: {self.home} is not at its end yet; {listed}")
        step = step or read_json(folder / "latest.txt")
        if step not in there:
            raise ConfigError(f"start_step={step}: no such checkpoint in {self.home}; {listed}")
        return folder / str(step)


def traits(schedule: Schedule, step: int, source: dict[str, Any]) -> dict[str, Any]:
    """What decides where in the data training is after ``step``; for ``source`` see ``source_of``."""
    return source | {
        "schedule.sequence_length": schedule.sequence_length,
        "schedule.packing": schedule.packing.name,
        "sequences": schedule.sequences_before(step + 1),
    }


def source_of(roles: dict[str, Any], schedule: Schedule, heldout_fraction: float) -> dict[str, Any]:
    """The names of the steps that the data come from, how they are mixed, and of documents the fraction not read."""
    read = schedule.sources() or SOURCES
    source: dict[str, Any] = {
        f"needs.{role}": Path(str(roles[role])).name for role in read if role in roles
    }
    if schedule.phases:
        source["schedule.phases"] = [asdict(phase) for phase in schedule.phases]
    return source | ({"heldout_fraction": heldout_fraction} if "documents" in roles else {})


def check(
    state: dict[str, Any],
    whose: str,
    model: Model,
    schedule: Schedule,
    source: dict[str, Any],
    seed: int | None = None,
) -> None:
    """Raise ConfigError, with the first setting that is not the same, unless a training can go on from ``state``.

    ``state`` is that of a checkpoint of ``whose``: step, model and data (``traits``, and the seed).
    """
    step, there = state["step"], state.get("data")
    if there is None:
        raise ConfigError(
            f"start: the checkpoints of {whose} do not say what was read; train it again"
        )
    own = {f"model.{key}": value for key, value in asdict(model).items()}
    other = {f"model.{key}": value for key, value in state["model"].items()} | there
    own |= traits(schedule, step, source) | ({} if seed is None else {"seed": seed})
    for key in own:
        if key != "sequences" and own[key] != other.get(key):
            raise ConfigError(
                f"{key}={own[key]}: {other.get(key)}, as {whose} has, which this goes on from"
            )
    if own["sequences"] != other["sequences"]:
        raise ConfigError(
            f"schedule.global_batch={schedule.global_batch}: {own['sequences']:,} sequences up to step {step},"
            f" {whose} has read {other['sequences']:,}; its batches up to there (schedule.batch_warmup), then others"
        )
    if schedule.steps <= step:
        raise ConfigError(
            f"schedule.steps={schedule.steps}: more than the {step} of the start, which count"
        )
