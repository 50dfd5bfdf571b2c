"""Section: the scores of every checkpoint with their errors, and a table of the last ones."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Evaluation"
CONFIDENT = 1.96  # standard errors to each side: an interval of 95%
SCORES = "scores.jsonl"
METRIC_NAMES = {  # what the short names in scores.jsonl mean; others are shown as they are
    "bits_per_byte": "bits per byte",
    "byte_perplexity": "perplexity, by byte",
    "word_perplexity": "perplexity, by word",
    "token_perplexity": "perplexity, by token",
    "target_perplexity": "perplexity of the target",
    "exact_match": "exact match",
    "acc": "accuracy, by likelihood",
    "acc_norm": "accuracy, by likelihood per character",
    "acc_norm_byte": "accuracy, by likelihood per byte",
    "acc_norm_token": "accuracy, by likelihood per token",
    "acc_norm_pmi": "accuracy, by information",
    "acc_norm_pmi_byte": "accuracy, by information per byte",
}
OTHER_FORMS = {"letters": "by letters"}  # the forms that a task may have beside its own


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The scores of one metric of one task in one form, by rising step: lines of scores.jsonl."""

    task: str
    form: str
    metric: str
    lines: list[dict[str, Any]]

    @property
    def first(self) -> dict[str, Any]:
        return self.lines[0]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def title(self) -> str:
        """The task, and its form where that is not its usual one."""
        return f"{self.task} {OTHER_FORMS[self.form]}" if self.form in OTHER_FORMS else self.task

    @property
    def metric_name(self) -> str:
        return self.metric_in_full.partition(",")[0]

    @property
    def metric_in_full(self) -> str:
        return METRIC_NAMES.get(self.metric, self.metric)

    @property
    def errors_above_chance(self) -> float | None:
        """(value - chance) / standard error of the last checkpoint, in the better direction."""
        last = self.last
        if last["chance"] is None or not last["stderr"]:
            return None
        better = 1 if last["higher_is_better"] else -1
        return better * (last["value"] - last["chance"]) / last["stderr"]

    @property
    def gain(self) -> float:
        """From the first checkpoint to the last, positive if better."""
        change = self.last["value"] - self.first["value"]
        return change if self.last["higher_is_better"] else -change


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Curves of every step that wrote scores, and a drawing of what stands for each task."""
    found = []
    for step in history.with_file(SCORES):
        lines = curves(step)
        drawn = [_chart(step, number, curve) for number, curve in enumerate(headlines(lines))]
        found.append((step, lines, drawn))
    found = [entry for entry in found if entry[1]]
    return {"evaluations": found} if found else None


def curves(step: Made) -> list[Curve]:
    """The curves of a step's scores.jsonl in the order of the file, after those that stand for a task."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in step.json_lines(SCORES):
        groups.setdefault((line["task"], line["form"], line["metric"]), []).append(line)
    found = [
        Curve(task=task, form=form, metric=metric, lines=sorted(lines, key=lambda ln: ln["step"]))
        for (task, form, metric), lines in groups.items()
    ]
    first = headlines(found)
    return first + [curve for curve in found if curve not in first]


def headlines(found: list[Curve]) -> list[Curve]:
    """Of each task and form the curve that stands for it."""
    return [curve for curve in found if curve.last["headline"]]


def _chart(step: Made, number: int, curve: Curve) -> Markup:
    name = f"scores-{step.name}-{number}"
    return charts.chart(name, f"{curve.title}: {curve.metric_in_full}", lambda ax: _draw(ax, curve))


def _draw(ax: Axes, curve: Curve) -> None:
    tokens = [line["tokens"] for line in curve.lines]
    scores = [line["value"] for line in curve.lines]
    errors = [CONFIDENT * (line["stderr"] or 0.0) for line in curve.lines]
    ax.set_title(f"{curve.title}: {curve.metric_in_full}")
    ax.errorbar(
        tokens,
        scores,
        yerr=errors if any(errors) else None,
        color=charts.FIRST,
        marker="o",
        markersize=5,
        linewidth=2,
        elinewidth=1.3,
        capsize=3.5,
    )
    if (chance := curve.last["chance"]) is not None:
        charts.chance_line(ax, chance)
    better = "higher" if curve.last["higher_is_better"] else "lower"
    charts.token_axis(
        ax, f"training tokens ({better} is better; bars: 95% of the chance in the items)"
    )
