"""Section: loss, learning rate, gradient norm and speed over the training tokens."""

import math
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Training"
METRICS, BAD_STEPS = "metrics.jsonl", "bad_steps.json"
SMOOTHED_SHARE = 25  # the smooth line is a mean over this part of the run, one 25th
POINTS = 1500  # drawn of the raw line, at most

Records = list[dict[str, Any]]


@dataclass(frozen=True, kw_only=True)
class Course:
    """One training step: its counts and its drawings."""

    step: Made
    charts: list[Markup]
    window: int  # logged steps that a point of the smooth line is the mean of; odd
    uniform_loss: float | None  # ln(vocabulary): what a model that knows nothing gets
    seconds: float  # of training itself
    skipped: list[int]  # steps that were not made: their loss was not finite, or a spike
    rolled_back: list[tuple[int, int]]  # from a bad step, to the step of a checkpoint


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """A course for each step that wrote metrics.jsonl."""
    courses = [course for step in history.with_file(METRICS) if (course := _course(step, history))]
    return {"courses": courses} if courses else None


def _course(step: Made, history: History) -> Course | None:
    records = [
        record for record in step.json_lines(METRICS) if "loss" in record and "tokens" in record
    ]
    skipped = [record["step"] for record in records if record.get("skipped")]
    records = [record for record in records if not record.get("skipped")]
    if not records:
        return None
    window = len(records) // SMOOTHED_SHARE // 2 * 2 + 1
    uniform = _uniform_loss(step, history)
    name = f"training-{step.name}"
    exports = [entry["tokens"] for entry in step.json("exports.json") or []]
    lower = "lr" in records[0]
    drawn = [
        charts.chart(
            f"{name}-loss",
            "Training loss over tokens, with the learning rate",
            lambda *axes: _draw_loss(axes, records, window, uniform, exports),
            inches=4.4 if lower else 3.4,
            rows=(3.2, 1) if lower else (1,),
        )
    ]
    extras: list[str] = [key for key in ("tokens_per_second", "grad_norm") if key in records[0]]
    if extras:
        drawn.append(
            charts.chart(
                f"{name}-speed",
                "Speed and gradient norm over tokens",
                lambda *axes: _draw_extras(axes, records, window, extras),
                inches=4.4,
                rows=(1,) * len(extras),
            )
        )
    seconds = records[-1].get("seconds", step.seconds)
    back = [
        (entry["step"], entry["to"])
        for entry in step.json(BAD_STEPS) or []
        if entry["action"] == "roll_back"
    ]
    return Course(
        step=step,
        charts=drawn,
        window=window,
        uniform_loss=uniform,
        seconds=seconds,
        skipped=skipped,
        rolled_back=back,
    )


def _uniform_loss(step: Made, history: History) -> float | None:
    """Known if one of the inputs has a tokens.json."""
    for made in history.made:
        if made.home in step.inputs.values() and (index := made.json("tokens.json")):
            return math.log(index["vocab_size"])
    return None


def _draw_loss(
    axes: tuple[Axes, ...], records: Records, window: int, uniform: float | None, exports: list[int]
) -> None:
    upper = axes[0]
    tokens = [record["tokens"] for record in records]
    losses = [record["loss"] for record in records]
    smoothed = charts.smooth(losses, window)
    every = max(1, len(records) // POINTS)
    upper.set_title("Loss, nats per token")
    upper.plot(tokens[::every], losses[::every], color=charts.FIRST, alpha=0.35, linewidth=0.9)
    upper.plot(tokens, smoothed, color=charts.FIRST, linewidth=2.2, label="smoothed")
    marked = [(t, s) for t, s in zip(tokens, smoothed, strict=True) if t in set(exports)]
    if marked:
        upper.plot(
            *zip(*marked, strict=True), "o", color=charts.SECOND, markersize=5.5, label="checkpoint"
        )
    if uniform is not None:
        label = "knows nothing: ln(vocabulary)"
        upper.axhline(
            uniform, color=charts.CHANCE, linewidth=1.2, linestyle=(0, (4, 3)), label=label
        )
    upper.legend(loc="upper right", bbox_to_anchor=(1, 0.93))
    if len(axes) > 1:
        axes[1].set_title("Learning rate", fontsize=11.5)
        axes[1].plot(
            tokens, [record["lr"] for record in records], color=charts.SECOND, linewidth=1.8
        )
        axes[1].set_ylim(bottom=0)
    charts.token_axis(axes[-1])


def _draw_extras(axes: tuple[Axes, ...], records: Records, window: int, keys: list[str]) -> None:
    titles = {
        "tokens_per_second": "Tokens per second",
        "grad_norm": "Gradient norm, before clipping",
    }
    tokens = [record["tokens"] for record in records]
    every = max(1, len(records) // POINTS)
    for ax, key in zip(axes, keys, strict=True):
        series = [record[key] for record in records]
        ax.set_title(titles[key])
        ax.plot(tokens[::every], series[::every], color=charts.FIRST, alpha=0.35, linewidth=0.9)
        ax.plot(tokens, charts.smooth(series, window), color=charts.FIRST, linewidth=2.0)
        ax.set_ylim(bottom=0)
        ax.yaxis.set_major_formatter(charts.FuncFormatter(charts.short))
    charts.token_axis(axes[-1])
