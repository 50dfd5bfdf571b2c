"""A search over one setting of training: the final loss of each run over its value, and which was best."""

import math
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from llmhpc.report import charts

END_SHARE = (
    20  # the final loss is the mean over the last 20th of the logged steps: one batch is noise
)
WIDE = 4  # times the smallest value: from there on the axis is logarithmic
CLOSE = 0.12  # of the axis: labels of such neighbours would overlap
COLOURS = (charts.FIRST, charts.SECOND, charts.CHANCE, charts.KEPT, charts.REMOVED)
MARKS = "osD^v"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One training: the setting's value, and its final loss (nats per token), None if it has not come to its end."""

    value: float
    loss: float | None
    home: Path


Lines = dict[
    str, list[Point]
]  # what the other settings of a line are -> its points by rising value


def final_loss(records: list[dict[str, Any]]) -> float | None:
    """Of the lines of a metrics.jsonl; steps that were skipped do not count."""
    losses = [record["loss"] for record in records if not record.get("skipped")]
    last = losses[-max(1, len(losses) // END_SHARE) :]
    return math.fsum(last) / len(last) if last else None


def best_of(points: list[Point]) -> Point | None:
    """The point with the lowest loss."""
    done = [point for point in points if point.loss is not None]
    return min(done, key=lambda point: (point.loss, point.value)) if done else None


def findings(key: str, lines: Lines) -> list[str]:
    """The best value of each line, a sentence each, and whether the search should go on beyond it."""
    said = []
    for name, points in lines.items():
        whose = f"{name}: " if name else ""
        best = best_of(points)
        missing = sum(point.loss is None for point in points)
        left = f"; {missing} of {len(points)} have not come to their end" if missing else ""
        if best is None:
            said.append(f"{whose}no training has come to its end")
            continue
        edge = {points[0].value: "smaller", points[-1].value: "larger"}.get(best.value)
        advice = f", the edge of the grid: try {edge} ones" if edge and len(points) > 1 else ""
        advice = advice or (" (the only one)" if len(points) == 1 else "")
        said.append(f"{whose}best {key}={best.value:g}, loss {best.loss:.4f}{advice}{left}")
    return said


def save(path: Path, key: str, lines: Lines) -> None:
    """Draw final losses over the setting ``key`` to a file, .svg or .png."""
    charts.save(path, lambda ax: _draw(ax, key, lines))


def _draw(ax: Axes, key: str, lines: Lines) -> None:
    values = sorted({point.value for points in lines.values() for point in points})
    for number, (name, points) in enumerate(lines.items()):
        colour, mark = COLOURS[number % len(COLOURS)], MARKS[number % len(MARKS)]
        done = [(point.loss, point.value) for point in points if point.loss is not None]
        losses, where = [loss for loss, _ in done], [value for _, value in done]
        ax.plot(where, losses, color=colour, marker=mark, markersize=5, linewidth=2, label=name)
        if done:
            ring = ax.plot(*min(done)[::-1], marker="o", markersize=13, color=colour)[0]
            ring.set(markerfacecolor="none", markeredgewidth=1.6)
        others = [point.value for point in points if point.loss is None]
        ax.plot(others, [0.97] * len(others), "x", color=colour, transform=ax.get_xaxis_transform())
    ax.set_title("Final loss, nats per token")
    places = values
    if values[0] > 0 and values[-1] >= WIDE * values[0]:
        ax.set_xscale("log")
        places = [math.log(value) for value in values]
    gaps = [b - a for a, b in pairwise(places)]
    if gaps and min(gaps) < CLOSE * sum(gaps):
        ax.tick_params(axis="x", rotation=45)
    ax.xaxis.set_major_locator(FixedLocator(values))
    ax.xaxis.set_minor_locator(NullLocator())
    ax.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    missing = any(point.loss is None for points in lines.values() for point in points)
    crosses = "; crosses: not at their end" if missing else ""
    ax.set_xlabel(f"{key} (rings: the best of a line{crosses})")
    ax.margins(y=0.15)
    if any(lines):
        ax.legend()
