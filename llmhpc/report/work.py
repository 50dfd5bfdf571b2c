"""Section: the graph of steps, and where the time went."""

from dataclasses import dataclass
from typing import Any

from llmhpc.report import copies, graph
from llmhpc.report.section import Limits
from llmhpc.report.upstream import DONE, GONE, History, Made

TITLE = "Steps"
MADE = (
    "tokens",
    "pages",
    "documents",
    "checkpoints",
    "items",
)  # the first that a step counts is shown
BESIDE_PIXELS = 650  # a wider graph stands above the table


@dataclass(frozen=True)
class Row:
    """A step, what it made of what, and its length as a percentage of the longest step's; copies over seeds together."""

    step: Made
    copies: int
    bytes: int
    flow: tuple[tuple[str, float], ...]  # what, how many
    percent: float


def values(history: History, limits: Limits) -> dict[str, Any]:
    """The drawing, and a row for each step."""
    merged = copies.merged(history.steps)
    done = [(one, group) for one, group in merged if one.state == DONE]
    longest = max((one.seconds for one, _ in done), default=0) or 1
    rows = [
        Row(
            one,
            len(group),
            sum(step.bytes for step in group),
            _flow(one),
            100 * one.seconds / longest,
        )
        for one, group in done
    ]
    drawn, width = graph.draw(
        [one for one, _ in merged], {one.home: len(group) for one, group in merged}
    )
    gone = _gone(history)
    return {"graph": drawn, "is_wide": width > BESIDE_PIXELS, "rows": rows, "gone": gone}


def _flow(step: Made) -> tuple[tuple[str, float], ...]:
    """The one or two counts that say most about a step."""
    counts = step.counts
    names: list[str] = [name for name in MADE if name in counts][:1]
    if "final_loss" in counts:
        names = ["steps", "tokens"]
    return tuple((name, counts[name]) for name in names if name in counts)


def _gone(history: History) -> list[Made]:
    return [step for step in history.steps if step.state == GONE]
