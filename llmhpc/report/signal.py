"""Section: which tasks tell anything of models of this size, and why the others do not."""

from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Signal of the tasks"
SIGNAL = "signal.json"
COLOURS = (charts.FIRST, charts.SECOND, charts.KEPT, charts.CHANCE, charts.REMOVED)


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Of every step that judged tasks: its table and a small chart of each."""
    found = []
    for step in history.with_file(SIGNAL):
        tasks = step.json(SIGNAL)
        drawn = [_chart(step.name, number, task) for number, task in enumerate(tasks)]
        unknown = sorted({what for task in tasks for what in task["unknown"]})
        found.append((step, tasks, drawn, unknown))
    return {"judged": found} if found else None


def _chart(step: str, number: int, task: dict[str, Any]) -> Markup:
    title = f"{task['task']}, {task['form']}: {'kept' if task['keep'] else 'dropped'}"
    name = f"signal-{step}-{number}"
    return charts.chart(name, title, lambda ax: _draw(ax, task, title), inches=2.9)


def _draw(ax: Axes, task: dict[str, Any], title: str) -> None:
    ax.set_title(title)
    names = sorted({course["data"] for course in task["courses"]})
    for place, name in enumerate(names):
        courses = [course for course in task["courses"] if course["data"] == name]
        for number, course in enumerate(courses):
            ax.plot(
                task["at"],
                course["values"],
                color=COLOURS[place % len(COLOURS)],
                linewidth=1.5,
                alpha=0.85,
                label=f"{name} ({len(courses)})" if number == 0 else None,
            )
    if task["chance"] is not None:
        charts.chance_line(ax, task["chance"])
    ax.legend(loc="best")
    charts.token_axis(ax, "training tokens (a line for each seed)")
