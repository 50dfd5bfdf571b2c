"""Section: whether one data set is better than another, over the tokens, and how sure that is."""

import math
from typing import Any

from markupsafe import Markup
from matplotlib.axes import Axes

from llmhpc.report import charts, copies
from llmhpc.report.curves import METRIC_NAMES
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Verdict"
VERDICT = copies.VERDICT
MEAN_TITLE = "mean of the tasks"

Pair = dict[str, Any]  # an entry of verdict.json
Colours = tuple[str, str]  # of both sides


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """Of every pair of data sets what the table shows, each with its chart; the best first."""
    shown = [
        (pair, _rows(f"verdict-{number}", pair, _colours(history, pair)))
        for number, pair in enumerate(pairs(history))
    ]
    return {"pairs": shown} if shown else None


def pairs(history: History) -> list[Pair]:
    """The comparisons of all verdict steps, by falling gain in the mean."""
    found = [pair for step in history.with_file(VERDICT) for pair in step.json(VERDICT)]
    return sorted(found, key=lambda pair: -_gain(pair))


def _gain(pair: Pair) -> float:
    gain: float = pair["mean"]["points"][-1]["gain"] if pair["mean"] else -math.inf
    return gain


def _rows(name: str, pair: Pair, colours: Colours) -> list[tuple[dict[str, Any], Markup]]:
    """The mean, then the tasks that are in it, then the others."""
    rows = sorted(pair["tasks"], key=lambda task: not task["in_mean"])
    if pair["mean"]:
        rows.insert(0, pair["mean"] | {"name": MEAN_TITLE, "metric": "rescaled"})
    return [
        (row, _chart(f"{name}-{number}", pair, row, colours)) for number, row in enumerate(rows)
    ]


def sentence(pair: Pair) -> tuple[str, str]:
    """What is better, and by how much."""
    what, _, by = pair["sentence"].partition(": ")
    return what, by


def ranking(found: list[Pair]) -> tuple[str, str] | None:
    """The same of several pairs, whose sentences are told further below."""
    if not found:
        return None
    names: dict[str, list[str]] = {"better": [], "not decided": [], "worse": []}
    for pair in found:
        names[_outcome(pair)].append(pair["a"])
    against = " and ".join(dict.fromkeys(pair["b"] for pair in found))
    told = "; ".join(f"{what}: {', '.join(mine)}" for what, mine in names.items() if mine)
    return f"{len(names['better'])} of {len(found)} data sets are better than {against}", f"{told}."


def _outcome(pair: Pair) -> str:
    said = pair["mean"]["verdict"] if pair["mean"] else ""
    sides = {f"{pair['a']} is better": "better", f"{pair['b']} is better": "worse"}
    return sides.get(said, "not decided")


def _colours(history: History, pair: Pair) -> Colours:
    found = copies.colours(history, ())
    return found[pair["a"]], found[pair["b"]]


def _chart(name: str, pair: Pair, one: dict[str, Any], colours: Colours) -> Markup:
    def draw(scores: Axes, gains: Axes) -> None:
        _scores(scores, pair, one, colours)
        _gains(gains, pair, one)

    return charts.chart(name, f"{one['name']}: {one['verdict']}", draw, inches=4.2, rows=(1.15, 1))


def _scores(ax: Axes, pair: Pair, one: dict[str, Any], colours: Colours) -> None:
    ax.set_title(f"{one['name']}: {one['verdict']}")
    tokens = [point["tokens"] for point in one["points"]]
    for side, colour in zip("ab", colours, strict=True):
        scores = [point[side] for point in one["points"]]
        ax.plot(tokens, scores, color=colour, linewidth=2, label=pair[side])
    ax.set_ylabel(METRIC_NAMES.get(one["metric"], one["metric"]).partition(",")[0])
    ax.legend(loc="best", ncols=2)


def _gains(ax: Axes, pair: Pair, one: dict[str, Any]) -> None:
    """How much better a is, with its interval; wide intervals of early checkpoints are cut off."""
    points = one["points"]
    tokens = [point["tokens"] for point in points]
    ax.fill_between(
        tokens,
        [point["low"] for point in points],
        [point["high"] for point in points],
        color=charts.KEPT,
        alpha=0.22,
        linewidth=0,
    )
    ax.plot(tokens, [point["gain"] for point in points], color=charts.KEPT, linewidth=2, marker="o", markersize=4)  # fmt: skip
    ax.axhline(0, color=charts.INK, linewidth=1)
    shown = [0.0, points[-1]["low"], points[-1]["high"], *(point["gain"] for point in points)]
    low, high = min(shown), max(shown)
    room = 0.4 * (high - low) or 1.0
    ax.set_ylim(low - room, high + room)
    ax.set_ylabel("gain")
    charts.token_axis(ax, f"training tokens (above 0: {pair['a']} is better; band: 95%)")
