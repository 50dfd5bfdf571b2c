"""Section: which tasks tell anything of models of this size, and why the others do not."""

from typing import Any

from markupsafe import Markup

from llmhpc.report import charts, copies
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Signal of the tasks"
SIGNAL = copies.SIGNAL


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Of every step that judged tasks: its table with a small drawing of each."""
    found = []
    for step in history.with_file(SIGNAL):
        tasks = step.json(SIGNAL)
        names = {course["data"] for task in tasks for course in task["courses"]}
        colours = copies.colours(history, names)
        unknown = sorted({what for task in tasks for what in task["unknown"]})
        keys = {name: charts.COLOURS[colours[name]] for name in colours if name in names}
        shown = [(task, _drawing(task, colours), _reasons(task)) for task in tasks]
        found.append((step, shown, keys, unknown))
    return {"judged": found} if found else None


def _drawing(task: dict[str, Any], colours: dict[str, str]) -> Markup:
    lines = [(colours[course["data"]], course["values"]) for course in task["courses"]]
    return charts.sparkline(lines, task["chance"])


def _reasons(task: dict[str, Any]) -> list[str]:
    """Without the numbers, which stand beside them, and each once."""
    return list(dict.fromkeys(reason.partition(":")[0] for reason in task["reasons"]))
