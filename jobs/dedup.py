"""Stage dedup: what is there twice, by one method; one of each is kept, and clusters/ says of whom it was a copy."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Finding, Phase, Stage
from llmhpc.dedup import Method
from llmhpc.dedup import run as run_method
from llmhpc.errors import ConfigError
from llmhpc.task import Task


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """A method and its settings. Stages with different methods can follow each other."""

    roles: ClassVar[dict[str, str]] = {"documents": "a step that writes documents/"}

    kind: str = "dedup"
    method: Method = field(default_factory=Method)

    def phases(self) -> list[Phase]:
        """The method's."""
        return self.method.phases(self.ranks)

    def before_launch(self) -> None:
        """Raise ConfigError if something the method needs is not there."""
        try:
            self.method.before_launch()
        except ConfigError as error:
            raise ConfigError(f"method.{error}") from None

    def foresee(
        self, inputs: dict[str, Path], out: Path, *, machine_gb: float | None
    ) -> list[Finding]:
        """Memory is known before the start: it does not depend on the documents."""
        most, asked = self.method.most_memory_mb() / 1000, self.resources.mem_gb
        if most <= asked:
            return []
        message = f"resources.mem_gb={asked:g}: {self.method.kind} takes {most:g}; more of it, or less method.memory_mb"
        return [Finding(message)]


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write documents/, removed/duplicate/ and clusters/{rank}.jsonl.zst in the method's last phase."""
    return run_method(cfg.method, inputs["documents"] / "documents", out, task)
