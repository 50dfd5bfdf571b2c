"""Section: the same questions by the text of the answer and by its letter, over training."""

from itertools import chain
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts, copies
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Cloze against letters"
FORMS = "forms.json"


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Of every evaluation with both forms a line of the table for each task, of the first seed a chart."""
    groups = copies.by_data(history, history.with_file(FORMS))
    first = [steps[0] for steps in groups.values()]
    found = []
    for step in chain(*groups.values()):
        tasks = step.json(FORMS)
        drawn = [
            _chart(f"forms-{step.anchor}-{number}", *task)
            for number, task in enumerate(tasks.items())
            if step in first
        ]
        found.append((copies.title(history, step, groups), tasks, drawn))
    return {"compared": found} if found else None


def _chart(name: str, task: str, one: dict[str, Any]) -> Markup:
    return charts.chart(name, f"{task}: cloze and letters", lambda ax: _draw(ax, task, one))


def _draw(ax: Axes, task: str, one: dict[str, Any]) -> None:
    """Both curves; the band is the interval of the difference, laid around the letters."""
    ax.set_title(task)
    points = one["points"]
    tokens = [point["tokens"] for point in points]
    for form, colour in (("cloze", charts.FIRST), ("letters", charts.SECOND)):
        scores = [point[form] for point in points]
        ax.plot(tokens, scores, color=colour, linewidth=2, marker="o", markersize=4, label=form)
    low, high = ([point["cloze"] + point[edge] for point in points] for edge in ("low", "high"))
    ax.fill_between(tokens, low, high, color=charts.SECOND, alpha=0.18, linewidth=0)
    if one["switch"] is not None:
        ax.axvline(one["switch"], color=charts.FAINT, linewidth=1, linestyle=(0, (2, 3)))
    ax.legend(loc="best")
    charts.token_axis(ax, "training tokens (band: 95% of letters less cloze)")
