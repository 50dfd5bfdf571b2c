"""Section: loss, learning rate, gradient norm and speed over the training tokens."""

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts, copies
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Training"
METRICS, BAD_STEPS = "metrics.jsonl", "bad_steps.json"
SMOOTHED_SHARE = 25  # the smooth line is a mean over this part of the run, one 25th
POINTS = 1500  # drawn of the raw line, at most

LR = "lr"
EXTRAS = {"tokens_per_second": "Tokens per second", "grad_norm": "Gradient norm, before clipping"}

Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training step and what it logged."""

    step: Made
    title: str
    colour: str
    seed: int
    records: Records  # of the steps that were made
    window: int  # logged steps that a point of the smooth line is the mean of; odd
    uniform_loss: float | None  # ln(vocabulary): what a model that knows nothing gets
    exports: frozenset[int]  # tokens of the checkpoints
    skipped: list[int]  # steps that were not made: their loss was not finite, or a spike
    rolled_back: list[tuple[int, int]]  # from a bad step, to the step of a checkpoint

    @property
    def last(self) -> dict[str, Any]:
        return self.records[-1]

    @property
    def seconds(self) -> float:
        """Of training itself."""
        found: float = self.last.get("seconds", self.step.seconds)
        return found

    @property
    def css(self) -> str:
        """The colour as the page has it."""
        return charts.COLOURS[self.colour]

    def series(self, key: str) -> list[float]:
        return [record[key] for record in self.records]


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """A course for each step that wrote metrics.jsonl; they share their drawings."""
    groups = copies.by_data(history, history.with_file(METRICS))
    colours = copies.colours(history, groups)
    courses = [
        course
        for data, steps in groups.items()
        for step in steps
        if (course := _course(step, history, data, colours[data])) is not None
    ]
    if not courses:
        return None
    by_title = {data: [c for c in courses if c.title == data] for data in groups}
    shown = {data: mine for data, mine in by_title.items() if mine}
    return {"courses": courses, "groups": shown, "charts": _charts(courses)}


def _course(step: Made, history: History, data: str, colour: str) -> Course | None:
    records = [
        record for record in step.json_lines(METRICS) if "loss" in record and "tokens" in record
    ]
    made = [record for record in records if not record.get("skipped")]
    if not made:
        return None
    return Course(
        step=step,
        title=data,
        colour=colour,
        seed=copies.seed(history, step),
        records=made,
        window=len(made) // SMOOTHED_SHARE // 2 * 2 + 1,
        uniform_loss=_uniform_loss(step, history),
        exports=frozenset(entry["tokens"] for entry in step.json("exports.json") or []),
        skipped=[record["step"] for record in records if record.get("skipped")],
        rolled_back=[
            (entry["step"], entry["to"])
            for entry in step.json(BAD_STEPS) or []
            if entry["action"] == "roll_back"
        ],
    )


def _charts(courses: list[Course]) -> list[Markup]:
    """Loss and learning rate, speed and gradient norm: as far as all of them have it."""
    keys = [key for key in (LR, *EXTRAS) if all(key in course.records[0] for course in courses)]
    drawn = [
        charts.chart(
            "training-loss",
            "Training loss over tokens, with the learning rate",
            lambda *axes: _draw_loss(axes, courses),
            inches=4.4 if LR in keys else 3.4,
            rows=(3.2, 1) if LR in keys else (1,),
        )
    ]
    extras = [key for key in keys if key in EXTRAS]
    if extras:
        drawn.append(
            charts.chart(
                "training-speed",
                "Speed and gradient norm over tokens",
                lambda *axes: _draw_extras(axes, courses, extras),
                inches=4.4,
                rows=(1,) * len(extras),
            )
        )
    return drawn


def _uniform_loss(step: Made, history: History) -> float | None:
    """Known if one of the inputs has a tokens.json."""
    for made in history.made:
        if made.home in step.inputs.values() and (index := made.json("tokens.json")):
            return math.log(index["vocab_size"])
    return None


def _draw_loss(axes: tuple[Axes, ...], courses: list[Course]) -> None:
    upper = axes[0]
    upper.set_title("Loss, nats per token")
    _lines(upper, courses, "loss")
    if len(courses) == 1:
        _mark_exports(upper, courses[0])
    levels = {course.uniform_loss for course in courses if course.uniform_loss is not None}
    for level in sorted(levels):
        charts.dashed(upper, level, label="knows nothing: ln(vocabulary)")
    upper.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    if len(axes) > 1:
        axes[1].set_title("Learning rate", fontsize=11.5)
        for course in courses:
            colour = charts.SECOND if len(courses) == 1 else course.colour
            axes[1].plot(course.series("tokens"), course.series(LR), color=colour, linewidth=1.8)
        axes[1].set_ylim(bottom=0)
    charts.token_axis(axes[-1])


def _draw_extras(axes: tuple[Axes, ...], courses: list[Course], keys: list[str]) -> None:
    for ax, key in zip(axes, keys, strict=True):
        ax.set_title(EXTRAS[key])
        _lines(ax, courses, key)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(charts.FuncFormatter(charts.short))
    charts.token_axis(axes[-1])


def _lines(ax: Axes, courses: list[Course], key: str) -> None:
    """Smooth lines, of one training alone over every logged step; the copies of one data set have one label."""
    named: set[str] = set()
    for course in courses:
        tokens, series = course.series("tokens"), course.series(key)
        every = max(1, len(series) // POINTS)
        smooth = charts.smooth(series, course.window)
        if len(courses) == 1:
            ax.plot(tokens[::every], series[::every], color=course.colour, alpha=0.35, linewidth=0.9)  # fmt: skip
        label = "smoothed" if len(courses) == 1 else course.title
        ax.plot(
            tokens,
            smooth,
            color=course.colour,
            linewidth=2.2 if len(courses) == 1 else 1.5,
            label=label if label not in named else None,
        )
        named.add(label)


def _mark_exports(ax: Axes, course: Course) -> None:
    smooth = charts.smooth(course.series("loss"), course.window)
    marked = [
        pair for pair in zip(course.series("tokens"), smooth, strict=True) if pair[0] in course.exports
    ]  # fmt: skip
    if marked:
        tokens, losses = zip(*marked, strict=True)
        ax.plot(tokens, losses, "o", color=charts.SECOND, markersize=5.5, label="checkpoint")
