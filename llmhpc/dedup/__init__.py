"""What is there twice, found and removed: one module per method, each with a ``Config`` and ``run``.

A method module holds

    class Config(Method)                                   the settings; ``phases(ranks)`` are its arrays
    def run(cfg, documents, out, task) -> counts           one task of one phase

Every method reads documents/, and writes documents/, removed/duplicate/ and clusters/: who was dropped, in favour
of whom, at what similarity. What was cut out of a document that stays is in removed/duplicate/ too, with ``whole``
false in its metadata. What phases hand over lies in work/. The result does not depend on the number of ranks,
their order, or the memory that they are given.
"""

import importlib
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING

from llmhpc.config import NOT_IDENTITY, Phase, at_least
from llmhpc.errors import ConfigError
from llmhpc.task import Task

BASE_MEMORY_MB = (
    500  # of a Python process that has loaded what the methods need, documents in hand included
)


class Keep(Enum):
    """Which of several copies stays; among equals the one whose id has the least hash."""

    first = "first"  # in the order of the shards
    longest = "longest"
    newest = "newest"  # by keep_field
    highest = "highest"  # by keep_field


@dataclass(kw_only=True, slots=True)
class Method:
    """Base of every method's settings."""

    group: ClassVar[str] = "method"

    kind: str = MISSING
    keep: Keep = Keep.first
    keep_field: str = ""  # of the metadata: a date in ISO 8601 for newest, a number for highest
    within: str = (
        ""  # of the metadata: only documents that agree in it are compared; empty: all are
    )
    score_field: str = (
        ""  # of the metadata: a number, whose mean the report shows for kept and removed
    )
    memory_mb: int = field(
        default=512, metadata=NOT_IDENTITY
    )  # for sorting, beside the process itself

    def __post_init__(self) -> None:
        at_least(self, "memory_mb", 1)
        by_field = self.keep in (Keep.newest, Keep.highest)
        if by_field and not self.keep_field:
            raise ConfigError(
                f"keep={self.keep.name}: keep_field says by which metadata; it is empty"
            )
        if self.keep_field and not by_field:
            raise ConfigError(
                f"keep_field={self.keep_field}: used by keep=newest and keep=highest, not {self.keep.name}"
            )

    def phases(self, ranks: int) -> list[Phase]:
        """The arrays of this method where documents are dealt to ``ranks``."""
        raise NotImplementedError

    def before_launch(self) -> None:
        """Raise ConfigError if something this method needs is not there; quick, and nothing is written."""

    def most_memory_mb(self) -> int:
        """What a task takes at most, however many documents there are."""
        return BASE_MEMORY_MB + self.memory_mb


def run(cfg: Method, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of whichever method ``cfg`` is."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").run(cfg, documents, out, task)
