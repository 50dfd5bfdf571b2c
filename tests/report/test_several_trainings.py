"""A page about trainings of two data sets over two seeds."""

import math
import re
import shutil

import pytest

from llmhpc.report import copies
from llmhpc.report.page import render
from llmhpc.report.upstream import gather

SEEDS, SETS = 2, 2


@pytest.fixture(scope="module")
def history(compared):
    return gather(compared.parent / "report-00000000", {"verdict": compared}, title="t")


@pytest.fixture(scope="module")
def page(history):
    return render(history, 3, 600)


def section(page, name):
    return re.split(r'<section id="(\w+)"', page.partition(f'<section id="{name}"')[2])[0]


def shown(html):
    return re.sub(r"<svg.*?</svg>|<[^>]*>", " ", html, flags=re.DOTALL)


def test_trainings_are_told_once_with_the_range_of_losses_of_each_data_set(page):
    text = " ".join(shown(section(page, "headline")).split())
    assert "Trainings 4 12,345 parameters each Training tokens 800 100 steps each" in text
    assert "Final loss, raw 4.000 – 4.010 from 8.000" in text
    assert "Final loss, refined 3.900 – 3.910 from 8.000" in text
    assert "accuracy" not in text


def test_seeds_share_a_colour_and_data_sets_do_not(history):
    colours = copies.colours(history, ())
    assert set(colours) == {"raw", "refined"}
    assert len(set(colours.values())) == SETS
    groups = copies.by_data(history, history.with_file("metrics.jsonl"))
    assert {name: len(steps) for name, steps in groups.items()} == {"raw": 2, "refined": 2}
    assert [copies.seed(history, step) for step in groups["raw"]] == [0, 1]


def test_all_losses_are_in_one_drawing(page):
    training = section(page, "training")
    assert training.count("<svg") == 2
    assert training.count(">refined</text>") == 1
    for colour in ("first", "second"):
        assert len(re.findall(rf"stroke: var\(--{colour}\); stroke-width: 1.5", training)) >= SEEDS


def test_scores_are_means_over_seeds_with_the_error_of_the_seeds(page):
    table = section(page, "evaluation").partition("<table>")[2]
    row = next(row for row in table.split("<tr>") if "per byte" in row)
    numbers = [float(number) for number in re.findall(r'value="([^"]*)"', row)]
    values = (0.46, 0.48), (0.56, 0.58)  # raw and refined, of both seeds
    mean = [sum(pair) / 2 for pair in values]
    error = 0.02 / math.sqrt(2) / math.sqrt(2)
    assert numbers[:4] == pytest.approx([mean[0], error, mean[1], error])


def test_scores_by_domain_are_those_of_the_last_checkpoint(page):
    table = section(page, "evaluation").partition("By domain")[2]
    assert shown(table).count("kind 1") == shown(table).count("kind 2") == 1


def test_copies_are_one_box_and_one_row(page, history):
    work = section(page, "work")
    assert len(copies.merged(history.steps)) == 7
    assert work.count('class="box') == 7
    assert shown(work).count("×2") == 4
    ids = re.findall(r'\bid="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]*)"', page)) <= set(ids)


def test_a_copy_of_a_step_below_another_root_is_the_same_step(run, verdict):
    other = run.root.with_name("other")
    (source,) = run.root.glob("shuffle-*")
    shutil.copytree(source, other / source.name)
    second = run.step("inspect", inputs={"documents": other / source.name})
    found = gather(run.root / "report-0", {"verdict": verdict, "inspection": second}, title="t")
    assert [step.name for step in found.steps].count("shuffle") == 1
    assert found.steps[-2].inputs["documents"] == source
