"""Section: the scores of every checkpoint with their errors, and a table of the last ones."""

import math
import statistics
from itertools import chain
from typing import Any, NamedTuple

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts, copies
from llmhpc.report.curves import SCORES, Curve, curves, headlines
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Evaluation"
CONFIDENT = 1.96  # standard errors to each side: an interval of 95%
DOMAINS = "domains.jsonl"
OPEN_ROWS = 12  # a longer table of domains is folded

Lines = list[dict[str, Any]]


class Cell(NamedTuple):
    """A score: the mean over the copies of a training."""

    value: float
    error: float | None  # standard error over the copies; of one alone, over the items


class Row(NamedTuple):
    """One score of the last checkpoints."""

    about: Curve
    domain: str
    cells: list[Cell | None]  # of each data set


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """One evaluation with the errors of its items, or several side by side."""
    groups = copies.by_data(history, history.with_file(SCORES))
    found = {data: [curves(step) for step in steps] for data, steps in groups.items()}
    every = [curve for mine in found.values() for one in mine for curve in one]
    if not every:
        return None
    colours = copies.colours(history, found)
    several = sum(map(len, found.values())) > 1
    last = {data: [[curve.last for curve in one] for one in found[data]] for data in found}
    return {
        "alone": None if several else every,
        "names": {data: charts.COLOURS[colours[data]] for data in found},
        "charts": _charts(found, colours),
        "rows": _rows(last) if several else [],
        "domains": _rows({data: [_domains(step) for step in groups[data]] for data in found}),
        "open_rows": OPEN_ROWS,
    }


def _domains(step: Made) -> Lines:
    """Those of the last checkpoint."""
    lines = step.json_lines(DOMAINS)
    last = max((line["step"] for line in lines), default=None)
    return [line for line in lines if line["step"] == last]


def _rows(lines_of: dict[str, list[Lines]]) -> list[Row]:
    """The lines of each copy of each data set's training, with those of one score in one row."""
    table: dict[tuple[str, str, str, str], dict[str, Lines]] = {}
    for data, mine in lines_of.items():
        for line in chain.from_iterable(mine):
            key = (line["task"], line["form"], line["metric"], line.get("domain", ""))
            table.setdefault(key, {}).setdefault(data, []).append(line)
    return [
        Row(
            Curve(task=task, form=form, metric=metric, lines=next(iter(of.values()))),
            domain,
            [_cell(of[data]) if data in of else None for data in lines_of],
        )
        for (task, form, metric, domain), of in table.items()
    ]


def _cell(lines: Lines) -> Cell:
    if len(lines) == 1:
        return Cell(lines[0]["value"], lines[0]["stderr"])
    scores = [line["value"] for line in lines]
    return Cell(statistics.mean(scores), statistics.stdev(scores) / math.sqrt(len(scores)))


def _charts(found: dict[str, list[list[Curve]]], colours: dict[str, str]) -> list[Markup]:
    """One for each task and form, with what stands for it of every training; what tells most comes first."""
    drawn: dict[tuple[str, str, str], dict[str, list[Curve]]] = {}
    for data, mine in found.items():
        for curve in headlines(list(chain.from_iterable(mine))):
            drawn.setdefault(curve.key, {}).setdefault(data, []).append(curve)
    ordered = sorted(drawn.values(), key=lambda of: -max(c.signal for c in chain(*of.values())))
    return [_chart(f"scores-{number}", of, colours) for number, of in enumerate(ordered)]


def _chart(name: str, of: dict[str, list[Curve]], colours: dict[str, str]) -> Markup:
    first = next(iter(of.values()))[0]
    title = f"{first.title}: {first.metric_in_full}"

    def draw(ax: Axes) -> None:
        ax.set_title(title)
        for data, mine in of.items():
            if len(mine) == 1:
                _with_errors(ax, mine[0], colours[data], data)
            else:
                _with_mean(ax, mine, colours[data], data)
        if len(of) > 1:
            ax.legend(loc="best")
        if (chance := first.last["chance"]) is not None:
            charts.chance_line(ax, chance)
        better = "higher" if first.last["higher_is_better"] else "lower"
        copies_too = any(len(mine) > 1 for mine in of.values())
        lines = "thin: each seed" if copies_too else "bars: 95% of the chance in the items"
        charts.token_axis(ax, f"training tokens ({better} is better; {lines})")

    return charts.chart(name, title, draw)


def _with_errors(ax: Axes, curve: Curve, colour: str, label: str) -> None:
    errors = [CONFIDENT * (line["stderr"] or 0.0) for line in curve.lines]
    ax.errorbar(
        curve.tokens,
        curve.scores,
        yerr=errors if any(errors) else None,
        color=colour,
        marker="o",
        markersize=5,
        linewidth=2,
        elinewidth=1.3,
        capsize=3.5,
        label=label,
    )


def _with_mean(ax: Axes, mine: list[Curve], colour: str, label: str) -> None:
    """Thin lines, and a strong one through their means at the tokens that all have."""
    for curve in mine:
        ax.plot(curve.tokens, curve.scores, color=colour, linewidth=1, alpha=0.45)
    tokens = sorted(set.intersection(*(set(curve.tokens) for curve in mine)))
    by_tokens = [dict(zip(curve.tokens, curve.scores, strict=True)) for curve in mine]
    means = [statistics.mean(scores[count] for scores in by_tokens) for count in tokens]
    ax.plot(tokens, means, color=colour, linewidth=2.4, marker="o", markersize=4, label=label)
