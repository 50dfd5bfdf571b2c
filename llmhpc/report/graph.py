"""The steps as a drawing: a row for each generation, boxes for steps, arrows for inputs with their roles.

An arrow that passes a row by runs in a lane beside that row's boxes, as in a metro map; lanes take turns on
both sides so that they cross as little as they can.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from markupsafe import Markup

from llmhpc.report import numbers
from llmhpc.report.upstream import DONE, GOING, GONE, HERE, Made

BOX_WIDTH, BOX_HEIGHT = 246, 44
GAP_X, GAP_Y = 26, 32
LANE_GAP = 26
MARGIN = 6
STATE_CLASSES = {DONE: "done", GOING: "going", HERE: "here", GONE: "gone"}


@dataclass(frozen=True)
class Arrow:
    """One input: the step that made it, the step that reads it, and the role it plays there."""

    source: Path
    target: Path
    role: str


@dataclass(frozen=True)
class Place:
    """A step's box: generation (row) and left upper corner, in pixels of the drawing."""

    row: int
    x: float
    y: float


def draw(steps: Sequence[Made], copies: Mapping[Path, int] | None = None) -> tuple[Markup, float]:
    """An SVG of the steps, which are given each after its inputs, and its width in pixels; colours are the page's.

    Args:
        steps: the steps.
        copies: of the directories of steps that stand for several, how many.
    """
    places = _places(steps)
    arrows = [
        Arrow(path, step.home, role) for step in steps for role, path in sorted(step.inputs.items())
    ]
    lanes = _lanes(arrows, places)
    left = min([place.x for place in places.values()] + list(lanes.values())) - MARGIN
    right = max([place.x + BOX_WIDTH for place in places.values()] + list(lanes.values())) + MARGIN
    height = max(place.y for place in places.values()) + BOX_HEIGHT + MARGIN
    parts = [
        _path(arrow, start, end, lanes, places)
        for arrow, start, end in _ports(arrows, places, lanes)
    ]
    parts += [_box(step, places[step.home], (copies or {}).get(step.home, 1)) for step in steps]
    svg = Markup(
        '<svg class="graph" role="img" aria-label="Graph of steps" viewBox="{left:.0f} 0 {w:.0f} {h:.0f}" '
        'style="max-width:{w:.0f}px">{defs}{body}</svg>'
    ).format(left=left, w=right - left, h=height, defs=_ARROW_HEAD, body=Markup("\n").join(parts))
    return svg, right - left


_ARROW_HEAD = Markup(
    '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" '
    'orient="auto"><path d="M0 0.5 8 4 0 7.5z" class="head"/></marker></defs>'
)


def _places(steps: Sequence[Made]) -> dict[Path, Place]:
    """A step's row is one below the lowest of its inputs; in a row, steps stand under what they read."""
    rows: dict[Path, int] = {}
    places: dict[Path, Place] = {}
    for step in steps:
        rows[step.home] = 1 + max((rows[path] for path in step.inputs.values()), default=-1)
    for row in range(max(rows.values()) + 1):
        inside = [step for step in steps if rows[step.home] == row]
        inside.sort(key=lambda step: _mean([places[path].x for path in step.inputs.values()]))
        for column, step in enumerate(inside):
            x = MARGIN + column * (BOX_WIDTH + GAP_X)
            places[step.home] = Place(row, x, MARGIN + row * (BOX_HEIGHT + GAP_Y))
    return places


def _mean(values: list[float]) -> float:
    return sum(values) / len(values) if values else 0.0


def _lanes(arrows: list[Arrow], places: dict[Path, Place]) -> dict[Arrow, float]:
    """The x of each arrow that passes rows by: beside their boxes, and beside lanes that overlap."""
    edges: dict[tuple[int, int], float] = defaultdict(float)  # (side, row) -> how far things reach
    for place in places.values():
        edges[1, place.row] = max(edges[1, place.row], place.x + BOX_WIDTH)
    lanes: dict[Arrow, float] = {}
    taken: dict[int, set[int]] = {
        1: set(),
        -1: set(),
    }  # side (right, left) -> rows that lanes touch
    for arrow in sorted(arrows, key=lambda a: (places[a.source].row, places[a.target].row, a.role)):
        first, last = places[arrow.source].row, places[arrow.target].row
        touched = set(range(first + 1, last + 1))
        passed = touched - {last}
        if passed:
            side = min((1, -1), key=lambda s: len(taken[s] & touched))
            far = max(edges[side, row] * side for row in passed) + LANE_GAP
            lanes[arrow] = far * side
            taken[side] |= touched
            for row in passed:
                edges[side, row] = lanes[arrow]
    return lanes


def _ports(
    arrows: list[Arrow], places: dict[Path, Place], lanes: dict[Arrow, float]
) -> list[tuple[Arrow, float, float]]:
    """Where each arrow leaves the lower edge of its source and meets the upper edge of its target."""
    leaving: dict[Path, list[Arrow]] = defaultdict(list)
    coming: dict[Path, list[Arrow]] = defaultdict(list)
    for arrow in arrows:
        leaving[arrow.source].append(arrow)
        coming[arrow.target].append(arrow)
    starts = _spread(leaving, places, lambda a: (lanes.get(a, places[a.target].x), a.role))
    ends = _spread(coming, places, lambda a: (lanes.get(a, places[a.source].x), a.role))
    return [(arrow, starts[arrow], ends[arrow]) for arrow in arrows]


def _spread(
    groups: dict[Path, list[Arrow]],
    places: dict[Path, Place],
    key: Callable[[Arrow], tuple[float, str]],
) -> dict[Arrow, float]:
    found = {}
    for home, group in groups.items():
        for number, arrow in enumerate(sorted(group, key=key), 1):
            found[arrow] = places[home].x + BOX_WIDTH * number / (len(group) + 1)
    return found


def _path(
    arrow: Arrow, start: float, end: float, lanes: dict[Arrow, float], places: dict[Path, Place]
) -> Markup:
    """A smooth line from box to box, and the role beside its head."""
    top = places[arrow.source].y + BOX_HEIGHT
    bottom = places[arrow.target].y
    bend = GAP_Y * 0.55
    if arrow in lanes:
        lane, first, last = lanes[arrow], top + GAP_Y, bottom - GAP_Y
        line = (
            f"M{start:.1f} {top:.1f} C{start:.1f} {top + bend:.1f} {lane:.1f} {first - bend:.1f} "
            f"{lane:.1f} {first:.1f} L{lane:.1f} {last:.1f} C{lane:.1f} {last + bend:.1f} "
            f"{end:.1f} {bottom - bend:.1f} {end:.1f} {bottom:.1f}"
        )
    else:
        line = (
            f"M{start:.1f} {top:.1f} C{start:.1f} {top + bend:.1f} {end:.1f} {bottom - bend:.1f} "
            f"{end:.1f} {bottom:.1f}"
        )
    return Markup(
        '<path class="arrow" d="{}" marker-end="url(#head)"/><text class="role" x="{:.1f}" y="{:.1f}">{}</text>'
    ).format(line, end + 6, bottom - 6, arrow.role)


def _box(step: Made, place: Place, copies: int) -> Markup:
    about = step.state
    if copies > 1:
        about = f"{step.state} · {numbers.clock(step.seconds)} · {copies} seeds"
    elif step.state == DONE:
        tasks = f"{step.tasks} task{'s' if step.tasks != 1 else ''}" if step.tasks else step.kind
        about = f"done · {numbers.clock(step.seconds)} · {tasks}"
    kind = (
        ""
        if step.kind == step.name
        else Markup('<tspan class="kind"> {}</tspan>').format(step.kind)
    )
    return Markup(
        '<a href="#step-{anchor}"><g class="box {css}" transform="translate({x:.1f} {y:.1f})">'
        '<rect width="{w}" height="{h}" rx="9"/><circle cx="17" cy="17" r="4.5"/>'
        '<text x="29" y="21.5" class="name">{name}{kind}</text>'
        '<text x="29" y="37" class="about">{about}</text></g></a>'
    ).format(
        anchor=step.anchor,
        name=step.name,
        css=STATE_CLASSES[step.state],
        x=place.x,
        y=place.y,
        w=BOX_WIDTH,
        h=BOX_HEIGHT,
        kind=kind,
        about=about,
    )
