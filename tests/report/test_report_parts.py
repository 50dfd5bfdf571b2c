import re
from pathlib import Path

import pytest

from llmhpc.report import charts, graph, numbers
from llmhpc.report.upstream import Made


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (numbers.count(0), "0"),
        (numbers.count(999_999), "999,999"),
        (numbers.count(4_132_096), "4.13M"),
        (numbers.count(70_553_706_496), "70.6B"),
        (numbers.size(999), "999 B"),
        (numbers.size(181_330_112), "181 MB"),
        (numbers.duration(3.14), "3.1 s"),
        (numbers.duration(59.97), "1 min 00 s"),
        (numbers.duration(242), "4 min 02 s"),
        (numbers.duration(7500), "2 h 05 min"),
        (numbers.duration(273_600), "3 d 4 h"),
        (numbers.number(0.031), "0.03100"),
        (numbers.number(8.3214), "8.321"),
        (numbers.number(0.0), "0"),
        (numbers.number(float("nan")), "–"),
        (numbers.number(None), "–"),
    ],
)
def test_a_number_is_shown_short(shown, expected):
    assert re.sub(r"<[^>]*>", "", shown) == expected


def test_a_number_keeps_its_exact_value():
    assert str(numbers.count(4_132_096)) == '<data value="4132096" title="4,132,096">4.13M</data>'


@pytest.mark.parametrize(
    ("part", "whole", "expected"),
    [
        (0, 10, "0%"),
        (10, 10, "100%"),
        (1, 5000, "<0.1%"),
        (4999, 5000, ">99.9%"),
        (1, 8, "12.5%"),
        (1, 0, "–"),
    ],
)
def test_a_share_never_rounds_to_nothing_or_to_all(part, whole, expected):
    assert numbers.share(part, whole) == expected


def test_smoothing_keeps_a_straight_line_and_both_ends():
    line = [float(n) for n in range(20)]
    assert charts.smooth(line, 7) == pytest.approx(line)
    assert charts.smooth([5.0, 1.0, 3.0], 3) == pytest.approx([5.0, 3.0, 3.0])


def test_a_chart_is_the_same_each_time_and_has_the_colours_of_the_page():
    def draw(ax):
        ax.plot([1, 2], [3, 4], color=charts.FIRST)

    first, second = (charts.chart("name", "<title>", draw) for _ in range(2))
    assert first == second
    assert "var(--first)" in first
    assert "http" not in first
    assert 'aria-label="&lt;title&gt;"' in first
    assert not re.search(r"#[0-9a-f]{6}", first)


def step(name, **inputs):
    record = {"name": name, "inputs": {role: f"/runs/{source}" for role, source in inputs.items()}}
    return Made(name=name, home=Path(f"/runs/{name}"), record=record)


def test_boxes_stand_below_their_inputs_and_never_on_each_other():
    steps = (
        step("a"),
        step("b"),
        step("c", x="a"),
        step("d", x="a", y="b", z="c"),
        step("e", x="d", y="a"),
    )
    svg, width = graph.draw(steps)
    found = re.findall(r'translate\(([\d.]+) ([\d.]+)\).*?class="name">(\w)', svg)
    places = {name: (float(x), float(y)) for x, y, name in found}
    assert places["a"][1] == places["b"][1] < places["c"][1] < places["d"][1] < places["e"][1]
    assert abs(places["a"][0] - places["b"][0]) > graph.BOX_WIDTH
    assert svg.count('class="arrow"') == 6
    assert width > 2 * graph.BOX_WIDTH


def test_a_name_in_the_graph_is_escaped():
    assert "<b>" not in graph.draw((step("<b>"),))[0]
