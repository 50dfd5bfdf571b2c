"""What can be asked of a model: one module per kind of task, each with a ``Config``; conf/task/ has the tasks.

A task module holds

    class Config(EvalTask)        the settings; ``kind`` is the module's name
    def ask(cfg, name, material)  every item, in each of its forms: a list of ``Asked``

The same material gives the same items on every machine, whatever the model. Modules load lighteval and other
large packages inside ``ask`` only: the launcher reads their settings.
"""

import importlib
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.evals.items import METRICS, Asked, Form


class NothingToAsk(StageError):
    """A task that is made of documents finds nothing in them; the other tasks go on without it."""


class Material(NamedTuple):
    """What items can be made of, beside files of their own."""

    heldout: Path | None = None  # the held-out documents of a tokenize step, .jsonl.zst
    documents: Path | None = None  # documents/ that a model was trained on: shards of .jsonl.zst


@dataclass(kw_only=True, slots=True)
class EvalTask:
    """Base of every task's settings."""

    group: ClassVar[str] = "task"

    kind: str = MISSING
    items: int = 1000  # at most, picked by their ids
    metric: str = ""  # the one that stands for the task; empty: the first of its form

    def __post_init__(self) -> None:
        at_least(self, "items", 1)
        valid = list(dict.fromkeys(name for form in self.put_as() for name in METRICS[form]))
        if self.metric and self.metric not in valid:
            raise ConfigError(f"metric={self.metric}: {', '.join(valid)}")

    def put_as(self) -> list[Form]:
        """The forms that its items have."""
        return [Form.cloze]

    def settle(self) -> None:
        """Note in the settings what files of the task hold: another content is another step."""

    def before_launch(self) -> None:
        """Raise ConfigError if a file of the task is not there or wrong: in one line, with file, line and field."""

    def check_length(self, positions: int) -> None:
        """Raise ConfigError if what is scored of an item could be longer than the model's positions."""


def ask(cfg: EvalTask, name: str, material: Material) -> list[Asked]:
    """What the module of a task's kind asks."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").ask(cfg, name, material)
