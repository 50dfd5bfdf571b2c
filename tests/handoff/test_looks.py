"""A look at what a step that is still being made will show."""

import pytest

from llmhpc import step
from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.jobs.report import Config
from llmhpc.planning.plan import Step


@pytest.fixture
def report(tmp_path):
    """An ordered report; evaluation goes on, the inspection is done, nobody has begun with the verdict."""
    roles = {"scores": "evaluate", "inspection": "inspect", "verdict": "verdict"}
    inputs = {role: tmp_path / f"{name}-00000000" for role, name in roles.items()}
    for path in inputs.values():
        path.mkdir()
    preview = inputs["scores"] / artifact.PREVIEW
    preview.mkdir()
    (preview / "scores.jsonl").write_text("{}\n")
    write_json(inputs["inspection"] / artifact.MANIFEST, {})
    home = tmp_path / "report-00000000"
    artifact.order(Step("report", Config(needs=roles, title="t"), 0, "00000000", home, inputs))
    return home, inputs


def test_a_look_at_the_page_does_without_a_verdict_that_is_not_there_yet(report):
    home, _ = report
    assert step.has_news(home)


def test_a_look_waits_for_what_is_read_only_when_it_is_whole(report):
    home, inputs = report
    (inputs["inspection"] / artifact.MANIFEST).unlink()
    assert not step.has_news(home)


def test_there_is_nothing_to_look_at_before_the_first_scores(report):
    home, inputs = report
    (inputs["scores"] / artifact.PREVIEW / "scores.jsonl").unlink()
    assert not step.has_news(home)
