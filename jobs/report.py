"""Stage report: one self-contained page about a whole run, from its first document to its last score."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from llmhpc.config import Footprint, Stage, at_least
from llmhpc.errors import ConfigError
from llmhpc.task import Task

PAGE = "report.html"
PAGE_BYTES = 500_000


@dataclass(kw_only=True, slots=True)
class Config(Stage):
    """What the page shows. Every step upstream of the inputs is found through the manifests."""

    early: ClassVar[dict[str, str]] = {"scores": "scores.jsonl", "verdict": "", "picked": ""}

    kind: str = "report"
    title: str = "${name}"  # the run's name
    examples: int = 3  # documents shown of each rule that removed some, and of those that were kept; needs.inspection has them
    example_characters: int = 600  # of each, at most

    def __post_init__(self) -> None:
        Stage.__post_init__(self)
        at_least(self, "examples", 0)
        at_least(self, "example_characters", 1)
        if self.ranks != 1:
            raise ConfigError(f"ranks={self.ranks}: 1, there is one page")

    def optional_roles(self) -> dict[str, str]:
        """What ends a run, and what shows its data."""
        return {
            "scores": "a step that writes scores.jsonl (evaluate)",
            "inspection": "a step that writes ledger.json and samples.parquet (inspect)",
            "verdict": "a step that writes signal.json (verdict)",
            "picked": "a step that writes pick.json (pick)",
        }

    def check_with(self, played_by: dict[str, Stage]) -> None:
        """Raise ConfigError if there is nothing to show."""
        if not played_by:
            raise ConfigError(
                "needs: one or more of scores (an evaluate step), inspection (an inspect step), verdict"
            )

    def will_write(self, input_bytes: int) -> Footprint:
        """A page."""
        return Footprint(PAGE_BYTES, 1)


def run(cfg: Config, inputs: dict[str, Path], out: Path, task: Task) -> dict[str, Any]:
    """Write report.html. Nothing in it depends on when it is written."""
    from llmhpc.report.page import render
    from llmhpc.report.upstream import gather

    history = gather(task.home, inputs, title=cfg.title)
    page = render(history, cfg.examples, cfg.example_characters, task.progress)
    (out / PAGE).write_text(page, encoding="utf-8")
    return {"steps": len(history.steps), "bytes": (out / PAGE).stat().st_size}
