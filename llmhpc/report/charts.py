"""Curves as inline SVG: the same data gives the same bytes, and the colours follow the page's light or dark."""

import io
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import accumulate
from pathlib import Path
from typing import Any

import matplotlib as mpl
from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from llmhpc.report.numbers import UNITS

# Stand-ins that are found again in the finished drawing -> the page's colours, see page.css.
INK, FAINT, GRID = "#22262f", "#7a8091", "#dfe1e7"
FIRST, SECOND, CHANCE = "#1668b5", "#c2571a", "#8a3ea8"
KEPT, REMOVED = "#3c8f7c", "#e0876a"
FOURTH, FIFTH, SIXTH = "#b03a7a", "#8f7a12", "#5b6472"
SEVENTH, EIGHTH = "#22a3c3", "#6e4527"
PALETTE = (
    FIRST,
    SECOND,
    KEPT,
    FOURTH,
    FIFTH,
    SIXTH,
    SEVENTH,
    EIGHTH,
)  # of things compared; not that of chance
COLOURS = {
    INK: "var(--ink)",
    FAINT: "var(--faint)",
    GRID: "var(--grid)",
    FIRST: "var(--first)",
    SECOND: "var(--second)",
    CHANCE: "var(--chance)",
    KEPT: "var(--kept)",
    REMOVED: "var(--removed)",
    FOURTH: "var(--fourth)",
    FIFTH: "var(--fifth)",
    SIXTH: "var(--sixth)",
    SEVENTH: "var(--seventh)",
    EIGHTH: "var(--eighth)",
}
STYLE: dict[Any, Any] = {
    "svg.hashsalt": "llmhpc",
    "svg.fonttype": "none",  # letters stay letters: smaller, selectable, in the reader's font
    "font.family": "DejaVu Sans",  # comes with matplotlib, so that the layout is the same everywhere
    "font.size": 11.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": GRID,
    "axes.labelcolor": FAINT,
    "axes.titlecolor": INK,
    "axes.titlesize": 13,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "text.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 10.5,
    "lines.solid_capstyle": "round",
    "figure.constrained_layout.use": True,
}
WIDTH_INCHES = 6.4
NO_METADATA = {"Date": None, "Creator": None, "Format": None, "Type": None}


@contextmanager
def _style() -> Iterator[None]:
    with mpl.rc_context():
        mpl.rcdefaults()  # not the user's own settings
        mpl.rcParams.update(STYLE)
        yield


def chart(
    name: str,
    title: str,
    draw: Callable[..., None],
    *,
    inches: float = 3.4,
    rows: Sequence[float] = (1,),
) -> Markup:
    """An inline SVG: ``draw`` is called with one pair of axes for each of ``rows`` (relative heights).

    Args:
        name: unique in the page, for the identifiers inside the drawing.
        title: what a screen reader says.
    """
    with _style():
        figure = Figure(figsize=(WIDTH_INCHES, inches))
        FigureCanvasSVG(figure)
        axes = figure.subplots(
            len(rows), 1, sharex=True, squeeze=False, gridspec_kw={"height_ratios": list(rows)}
        )
        draw(*axes[:, 0])
        file = io.StringIO()
        figure.savefig(file, format="svg", metadata=NO_METADATA, transparent=True)
    return _inline(file.getvalue(), name, title)


def save(path: Path, draw: Callable[..., None], *, inches: float = 3.4) -> None:
    """A drawing as a file of its own, .svg or .png, on white; ``draw`` is called with the axes."""
    with _style():
        figure = Figure(figsize=(WIDTH_INCHES, inches), dpi=160)
        FigureCanvasAgg(figure)
        draw(figure.subplots())
        metadata = NO_METADATA if path.suffix == ".svg" else None
        figure.savefig(path, metadata=metadata, facecolor="white")


def sparkline(lines: Iterable[tuple[str, Sequence[float]]], chance: float | None) -> Markup:
    """A drawing that fits in a row of a table: lines with their colours over equal steps, and where chance is."""
    lines = list(lines)
    shown = [
        *(value for _, values in lines for value in values),
        *([] if chance is None else [chance]),
    ]
    low, span = min(shown), (max(shown) - min(shown)) or 1.0
    wide, high, edge = 120, 34, 3

    def place(value: float) -> str:
        return f"{high - edge - (value - low) / span * (high - 2 * edge):.1f}"

    parts = []
    if chance is not None:
        level = place(chance)
        parts.append(
            f'<path d="M0 {level}H{wide}" stroke="{COLOURS[CHANCE]}" stroke-dasharray="3 3"/>'
        )
    for colour, values in lines:
        apart = (wide - 2 * edge) / max(1, len(values) - 1)
        points = " ".join(
            f"{edge + apart * n:.1f},{place(value)}" for n, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" stroke="{COLOURS[colour]}" stroke-width="1.5"/>')
    return Markup('<svg class="spark" viewBox="0 0 {} {}" aria-hidden="true">{}</svg>').format(
        wide, high, Markup("".join(parts))
    )


def token_axis(axes: Axes, label: str = "training tokens") -> None:
    """The x axis of curves over training."""
    axes.set_xlabel(label)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    axes.xaxis.set_major_formatter(FuncFormatter(short))


def chance_line(axes: Axes, chance: float) -> None:
    """Where guessing gets, named beside the axes; the axes are made to hold it."""
    low, high = axes.get_ylim()
    room = 0.06 * (max(high, chance) - min(low, chance))
    axes.set_ylim(min(low, chance - room), max(high, chance + room))
    dashed(axes, chance)
    axes.annotate(
        "chance",
        (1.01, chance),
        xycoords=("axes fraction", "data"),
        color=CHANCE,
        va="center",
        fontsize=10.5,
    )


def dashed(axes: Axes, level: float, label: str | None = None) -> None:
    """A level that one compares with, across the drawing."""
    axes.axhline(level, color=CHANCE, linewidth=1.2, linestyle=(0, (4, 3)), label=label)


def short(value: float, _: object = None) -> str:
    """Numbers of an axis: 250k, 1.5M."""
    for size, unit in (*UNITS, (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def smooth(values: Sequence[float], window: int) -> list[float]:
    """Mean over up to ``window`` values around each one; the window is cut alike on both sides near an end."""
    sums = [0.0, *accumulate(values)]
    smoothed = []
    for place in range(len(values)):
        reach = min(window // 2, place, len(values) - 1 - place)
        smoothed.append((sums[place + reach + 1] - sums[place - reach]) / (2 * reach + 1))
    return smoothed


def _inline(svg: str, name: str, title: str) -> Markup:
    """The drawing without what only a file needs, sized by the page, its identifiers made unique."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    head, _, body = svg.partition(">")
    view = re.search(r'viewBox="[^"]*"', head)
    body = re.sub(r'\bid="', f'id="{name}-', body)
    body = body.replace("url(#", f"url(#{name}-").replace('href="#', f'href="#{name}-')
    body = body.replace("xlink:href", "href")
    body = re.sub(r"(font: [^;\"]*?)'DejaVu Sans'(, sans-serif)?", r"\1var(--sans)", body)
    for stand_in, colour in COLOURS.items():
        body = body.replace(stand_in, colour)
    opening = (
        f'<svg class="chart" role="img" aria-label="{escape(title)}" {view[0] if view else ""}>'
    )
    return Markup(opening + body.strip())
