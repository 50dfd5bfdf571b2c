"""Section: whether probabilities of letters are what they say, and which letters a model likes."""

from itertools import chain
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts, copies
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Calibration of letters"
CALIBRATION = "calibration.json"


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Of every evaluation with letters the numbers of the table, of the first seed two charts for each task."""
    groups = copies.by_data(history, history.with_file(CALIBRATION))
    first = [steps[0] for steps in groups.values()]
    found = []
    for step in chain(*groups.values()):
        tasks = step.json(CALIBRATION)
        drawn = [
            chart
            for number, (name, one) in enumerate(tasks.items())
            if step in first
            for chart in _charts(f"calibration-{step.anchor}-{number}", name, one)
        ]
        found.append((copies.title(history, step, groups), tasks, drawn))
    return {"calibrated": found} if found else None


def _charts(name: str, task: str, one: dict[str, Any]) -> list[Markup]:
    error = one["expected_calibration_error"]
    reliability = f"{task}: expected calibration error {error:.3f}"
    prior = f"{task}: letters"
    return [
        charts.chart(name, reliability, lambda ax: _reliability(ax, one, reliability)),
        charts.chart(f"{name}-letters", prior, lambda ax: _prior(ax, one, prior)),
    ]


def _reliability(ax: Axes, one: dict[str, Any], title: str) -> None:
    """Accuracy over confidence; the area of a point is its share of the items."""
    ax.set_title(title)
    ax.plot([0, 1], [0, 1], color=charts.FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    confidence = [bin["confidence"] for bin in one["bins"]]
    accuracy = [bin["accuracy"] for bin in one["bins"]]
    ax.plot(confidence, accuracy, color=charts.FIRST, linewidth=1.2, alpha=0.5)
    areas = [18 + 500 * bin["items"] / one["items"] for bin in one["bins"]]
    ax.scatter(
        confidence, accuracy, s=areas, color=charts.FIRST, alpha=0.8, linewidth=0, clip_on=False
    )
    ax.set_xlim(0, 1.02)
    ax.set_ylim(-0.04, 1.08)
    ax.set_xlabel("probability of the chosen letter")
    ax.set_ylabel("right")


def _prior(ax: Axes, one: dict[str, Any], title: str) -> None:
    ax.set_title(title)
    shown = (
        ("right", charts.KEPT, "is right"),
        ("probability", charts.FIRST, "mean probability"),
        ("chosen", charts.SECOND, "is chosen"),
    )
    for place, (key, colour, label) in enumerate(shown):
        at = [letter + 0.27 * (place - 1) for letter in range(len(one["letters"]))]
        ax.bar(at, [row[key] for row in one["letters"]], 0.25, color=colour, label=label)
    ax.set_xticks(range(len(one["letters"])), [row["letter"] for row in one["letters"]])
    ax.grid(visible=False, axis="x")
    ax.margins(y=0.2)
    ax.set_ylabel("share of questions")
    ax.legend(loc="upper center", ncols=3)
