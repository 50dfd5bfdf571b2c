"""Section: documents, bytes and tokens by rule and domain, and how long and how good documents were."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from llmhpc.report import charts
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Data ledger"
LEDGER, HISTOGRAMS = "ledger.json", "histograms.json"  # of an inspect step
DOMAINS = 15  # lines of the table of domains
FROM = 3  # domains named for each rule
CHARTS = 8  # of one step
BARS = 32  # of one drawing
LENGTHS = ("tokens", "characters")  # the first that there is stands for length
KEPT = "kept"
WIDE = 50  # highest / lowest number from which an axis is logarithmic
Row = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Account:
    """One step: its rules, each with the domains that it removed most tokens of; its domains; drawings."""

    step: str
    rules: list[tuple[Row, list[tuple[str, int]]]]
    domains: list[
        tuple[str, list[Row]]
    ]  # a line for each rule: all of a domain that was kept came to all
    charts: list[Markup]

    @property
    def pages(self) -> bool:
        return self.rules[0][0]["tokens_are"] == "none"

    @property
    def has_rules(self) -> bool:
        return bool(self.rules[0][0]["rule"])

    @property
    def columns(self) -> tuple[str, ...]:
        return ("documents", "bytes") if self.pages else ("documents", "bytes", "tokens")


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """An account of every step that was inspected, in the order of the run."""
    accounts = [
        account for made in history.with_file(LEDGER) for account in _accounts(history, made)
    ]
    return {"accounts": accounts} if accounts else None


def _accounts(history: History, inspection: Made) -> list[Account]:
    record, drawn = inspection.json(LEDGER), inspection.json(HISTOGRAMS) or []
    names = {inspection.inputs[role]: role for role in inspection.inputs}
    accounts = []
    for step in history.steps:
        role = names.get(step.home)
        lines = [row for row in record["totals"] if row["step"] == role]
        if lines:
            accounts.append(Account(
                step=step.name,
                rules=[(line, _most(record["most_removed"], line)) for line in lines],
                domains=_domains([row for row in record["top"] if row["step"] == role]),
                charts=_charts(step.name, [one for one in drawn if one["step"] == role]),
            ))  # fmt: skip
    return accounts


def _most(rows: list[Row], line: Row) -> list[tuple[str, int]]:
    mine = [row for row in rows if (row["step"], row["rule"]) == (line["step"], line["rule"])]
    return [(row["domain"], row["tokens_removed"]) for row in mine[:FROM]]


def _domains(rows: list[Row]) -> list[tuple[str, list[Row]]]:
    """Nothing if there is one domain only."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(row["domain"], []).append(row)
    return list(found.items())[:DOMAINS] if len(found) > 1 else []


def _charts(step: str, histograms: list[dict[str, Any]]) -> list[Markup]:
    """Kept beside removed: of length, then of every score."""
    quantities: dict[str, dict[bool, Counter[tuple[float, float]]]] = {}
    for one in histograms:
        sides = quantities.setdefault(one["of"], {True: Counter(), False: Counter()})
        for low, high, count in one["bins"]:
            sides[one["fate"] == KEPT][low, high] += count
    length = next((name for name in LENGTHS if name in quantities), "")
    scores = [name for name in sorted(quantities) if name not in LENGTHS]
    wanted = [name for name in [length, *scores] if name and _varies(quantities[name])][:CHARTS]
    return [
        charts.chart(f"histogram-{step}-{n}", f"{name} of documents of {step}",
                     lambda ax, name=name: _draw(ax, name, quantities[name]), inches=2.6)
        for n, name in enumerate(wanted)
    ]  # fmt: skip


def _varies(sides: dict[bool, Counter[tuple[float, float]]]) -> bool:
    return len({bin for side in sides.values() for bin in side}) > 1


def _draw(ax: Axes, name: str, sides: dict[bool, Counter[tuple[float, float]]]) -> None:
    """Shares of the documents of each side by bin, so that few can be compared with many."""
    ends = sorted({end for side in sides.values() for pair in side for end in pair})
    logarithmic = ends[0] > 0 and ends[-1] > WIDE * ends[0]
    edges = (np.geomspace if logarithmic else np.linspace)(ends[0], ends[-1], BARS + 1)
    for kept, colour in ((True, charts.KEPT), (False, charts.REMOVED)):
        if total := sum(sides[kept].values()):
            heights = 100 * _joined(sides[kept], edges) / total
            label = f"{KEPT if kept else 'removed'} ({total:,})"
            ax.stairs(heights, edges, fill=True, alpha=0.28, color=colour)
            ax.stairs(heights, edges, color=colour, linewidth=1.6, label=label)
    if logarithmic:
        ax.set_xscale("log")
        ax.xaxis.set_minor_formatter(FuncFormatter(lambda *_: ""))
    ax.xaxis.set_major_formatter(FuncFormatter(charts.short))
    ax.set_title(name)
    ax.set_ylabel("% of documents")
    ax.legend()


def _joined(side: Counter[tuple[float, float]], edges: np.ndarray) -> np.ndarray:
    """Counts between ``edges``, shape (n - 1,): a bin that lies across an edge is shared out by its length."""
    bins = sorted(side.items())
    ends = [end for pair, _ in bins for end in pair]
    counts = [n for _, count in bins for n in (0, count)]
    below = np.interp(edges, ends, np.cumsum(counts))
    below[0], below[-1] = 0, sum(counts)
    return np.diff(below)
