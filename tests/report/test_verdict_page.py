import json
import re

import pytest
from markupsafe import escape

from llmhpc.evals.judging import calibration, forms, signal, verdict
from llmhpc.report.page import render
from llmhpc.report.upstream import gather

TASKS = (("arc", "cloze"), ("arc", "letters"), ("pages", "text"))
SECTIONS = ("verdict", "signal", "calibration", "forms")


def page_of(last, role):
    return render(gather(last.parent / "report-00000000", {role: last}, title="t"), 3, 600)


def sections_of(page):
    """Section -> its HTML."""
    found = re.split(r'<section id="(\w+)"', page)
    return dict(zip(found[1::2], found[2::2], strict=True))


@pytest.fixture(scope="module")
def judged(simulate):
    """What the steps write: signal.json, verdict.json, calibration.json, forms.json."""
    runs = [
        simulate(data, seed, quality=quality, tasks=TASKS, items=60, checkpoints=5)
        for data, quality in (("raw", 0.0), ("<refined>", 1.0))
        for seed in (0, 1)
    ]
    signals = signal.signals(runs)
    return {
        "signal.json": [vars(one) for one in signals],
        "verdict.json": verdict.verdicts(runs, signal.in_mean(signals), "raw"),
        "calibration.json": calibration.calibration(runs[0].items),
        "forms.json": forms.forms(runs[0]),
    }


@pytest.fixture
def shown(judged, run):
    """The page of a step with these files."""

    def show(*names, **changed):
        files = {name: json.dumps(changed.get(name[:-5], judged[name])).encode() for name in names}
        return sections_of(page_of(run.step("verdict", files=files), "verdict"))

    return show


def test_the_sentence_of_the_verdict_is_the_first_thing_on_the_page(judged, shown):
    page = shown("verdict.json")
    section = page["verdict"]
    (pair,) = judged["verdict.json"]
    assert pair["a"] == "<refined>"
    what, _, by = pair["sentence"].partition(": ")
    start = page["headline"].index(str(escape(what)))
    assert start < page["headline"].index(str(escape(by))) < page["headline"].index("tiles")
    assert list(page).index("verdict") == 1
    assert "<refined>" not in section
    for one in (pair["mean"], *pair["tasks"]):
        last = one["points"][-1]
        for key in ("a", "b", "gain", "low", "high"):
            assert f'value="{last[key]}"' in section
    assert section.count("<svg") == 1 + len(pair["tasks"])


def test_what_is_left_out_of_a_verdict_is_named(judged, shown):
    pair = judged["verdict.json"][0] | {"mean": None, "left_out": {"quiz/cloze": "why <not>"}}
    section = shown("verdict.json", verdict=[pair])["verdict"]
    assert "quiz/cloze is left out: why &lt;not&gt;." in section


def test_every_measure_of_every_task_is_shown_with_the_reason_to_drop_it_once(judged, shown):
    tasks = [
        one | {"keep": False, "reasons": ["no <good>: 1", "no <good>: 2"]}
        for one in judged["signal.json"]
    ]
    section = shown("signal.json", signal=tasks)["signal"]
    for one in tasks:
        for key in ("final", "avg_spearman", "avg_snr", "avg_kendall_tau_a"):
            number = int(one[key]) if float(one[key]).is_integer() else one[key]
            assert f'value="{number}"' in section, key
    assert section.count("no &lt;good&gt;") == section.count("<svg") == len(tasks)


def test_one_training_alone_shows_its_signal_and_what_is_not_known(shown, simulate):
    alone = [vars(one) for one in signal.signals([simulate("a", 0, tasks=TASKS, items=30)])]
    section = shown("signal.json", signal=alone)["signal"]
    assert (
        "Not known: noise of seeds: that takes two trainings of a data set that differ." in section
    )


def test_calibration_and_forms_show_the_numbers_of_their_files(judged, shown):
    found = shown("calibration.json", "forms.json")
    one = judged["calibration.json"]["arc"]
    for value in (one["expected_calibration_error"], *one["interval"], one["mean_confidence"]):
        assert f'value="{value}"' in found["calibration"]
    assert all(f">{letter}<" in found["calibration"] for letter in "ABCD")
    last = judged["forms.json"]["arc"]["points"][-1]
    for key in ("cloze", "letters", "low", "high"):
        assert f'value="{last[key]}"' in found["forms"]


def test_a_run_without_these_files_has_none_of_these_sections(shown):
    assert not set(SECTIONS) & set(shown())
    assert set(SECTIONS) & set(shown("signal.json")) == {"signal"}
