"""Section: the graph of steps, and where the time went."""

from dataclasses import dataclass
from typing import Any

from llmhpc.report import graph
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Steps"
MADE = (
    "tokens",
    "pages",
    "documents",
    "checkpoints",
    "items",
)  # the first that a step counts is shown


@dataclass(frozen=True)
class Row:
    """A step, what it made of what, and its length as a percentage of the longest step's."""

    step: Made
    flow: tuple[tuple[str, float], ...]  # what, how many
    percent: float


def values(history: History, limits: Limits) -> dict[str, Any]:
    """The drawing, and a row for each step."""
    longest = max((step.seconds for step in history.made), default=0) or 1
    rows = [Row(step, _flow(step), 100 * step.seconds / longest) for step in history.made]
    return {"graph": graph.draw(history.steps), "rows": rows, "gone": _gone(history)}


def _flow(step: Made) -> tuple[tuple[str, float], ...]:
    """The one or two counts that say most about a step."""
    counts = step.counts
    names: list[str] = [name for name in MADE if name in counts][:1]
    if "final_loss" in counts:
        names = ["steps", "tokens"]
    return tuple((name, counts[name]) for name in names if name in counts)


def _gone(history: History) -> list[Made]:
    return [step for step in history.steps if step.state == graph.GONE]
