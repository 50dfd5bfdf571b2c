import json
import re
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest

from llmhpc.errors import ArtifactError
from llmhpc.report.page import render
from llmhpc.report.upstream import gather


@cache
def page_of_finished(last):
    return page_of(last)


def page_of(last, role="scores", examples=3):
    home = last.parent / "report-00000000"
    inputs = {role: last}
    for inspection in last.parent.glob("inspect-*"):
        inputs["inspection"] = inspection
    return render(gather(home, inputs, title="quickstart"), examples, 600)


class Elements(HTMLParser):
    """Start tags with their attributes, exact values, and the text a reader sees."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.values, self.text, self.ids = [], [], "", []
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        self.tags.append((tag, found))
        self.ids += [found["id"]] if "id" in found else []
        if tag == "data":
            self.values.append(float(found["value"]))

    handle_startendtag = handle_starttag

    def handle_data(self, data):
        self.text += data


def test_the_page_loads_nothing_from_anywhere(finished):
    page = page_of_finished(finished)
    elements = Elements(page)
    assert not {tag for tag, _ in elements.tags} & {
        "script",
        "link",
        "img",
        "iframe",
        "object",
        "base",
    }
    for tag, attributes in elements.tags:
        for name in ("src", "srcset", "href", "xlink:href", "action", "poster", "data"):
            if name in attributes:
                assert attributes[name].startswith("#"), (tag, attributes)
        assert not [name for name in attributes if name.startswith("on")]
    styles = page[page.index("<style>") : page.index("</style>")]
    assert "@import" not in page
    assert "url(" not in styles
    assert all(target.startswith("#") for target in re.findall(r"url\(([^)]*)\)", page))


def test_identifiers_are_unique_and_every_link_inside_the_page_has_its_target(finished):
    elements = Elements(page_of_finished(finished))
    assert len(elements.ids) == len(set(elements.ids))
    targets = {a["href"][1:] for _, a in elements.tags if a.get("href", "").startswith("#")}
    assert targets <= set(elements.ids)


SUMS = ("kept_scored", "kept_score", "removed_scored", "removed_score")  # shown as means


def counted(record):
    """Every number in the counts of a manifest, without those that no reader needs."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from counted(value)
        elif key not in ("scattered", "sample_bytes", "to_remove", "pairs", *SUMS):
            yield key, value


@pytest.mark.parametrize("kind", ["collect", "filter", "dedup", "shuffle", "tokenize", "train"])
def test_every_count_of_the_data_and_of_training_is_shown_exactly(finished, kind):
    (manifest,) = finished.parent.glob(f"{kind}-*/manifest.json")
    shown = Elements(page_of_finished(finished)).values
    for key, value in counted(json.loads(manifest.read_text())["counts"]):
        assert value in shown, (key, value)


def test_scores_times_and_sizes_are_those_of_the_files(finished):
    shown = Elements(page_of_finished(finished)).values
    lines = [json.loads(line) for line in (finished / "scores.jsonl").read_text().splitlines()]
    last = max(line["step"] for line in lines)
    for line in lines:
        if line["step"] == last:
            assert {line["value"], line["stderr"], line["items"]} <= set(shown)
    records = [json.loads(path.read_text()) for path in finished.parent.glob("*/manifest.json")]
    for record in records:
        assert record["seconds"] in shown
        assert sum(entry["bytes"] for entry in record["files"].values()) in shown
    assert pytest.approx(sum(record["seconds"] for record in records)) in shown


def test_every_step_is_shown_with_its_place_commit_and_settings(finished):
    text = Elements(page_of_finished(finished)).text
    for path in finished.parent.glob("*/manifest.json"):
        record = json.loads(path.read_text())
        assert str(path.parent) in text
        assert record["commit"] in text
        assert record["fingerprint"] in text
    assert "rules.gopher_quality.min_words" in text
    assert "2.13.0" in text


def test_what_a_rule_edits_and_spares_stands_beside_what_it_removes(finished):
    text = " ".join(Elements(page_of_finished(finished)).text.split())
    assert "lines removed: filter-javascript 24" in text
    assert "edited: characters removed 4,321 edited: documents 17" in text
    assert "kept of what would be removed 6" in text


def test_the_text_of_documents_is_shown_and_never_becomes_markup(finished):
    page = page_of_finished(finished)
    assert "&lt;script&gt;alert(" in page
    assert "<script" not in page
    assert "<img" not in page
    text = Elements(page).text
    assert "<script>alert('removed')</script>" in text
    assert re.search(r"gopher_short_doc: \d+ < 50", text)
    assert re.search(r"similarity 0.91 to page/\d", text)


def test_scores_of_what_deduplication_kept_and_removed_stand_side_by_side(finished):
    text = Elements(page_of_finished(finished)).text
    table = "".join(text[text.index("Copies in dedup") :].split("Tokens")[0].split())
    assert "meanqualityofkeptofremoved" in table
    assert table.endswith("195202.00–4to7611753.001.25"), table


def test_the_ledger_shows_every_rule_and_every_domain_that_was_kept(finished):
    (home,) = finished.parent.glob("inspect-*")
    record, elements = json.loads((home / "ledger.json").read_text()), Elements(page_of_finished(finished))  # fmt: skip
    for row in record["totals"]:
        for what in ("documents", "bytes", "tokens"):
            assert row[f"{what}_in"] in elements.values
            assert not row[f"{what}_removed"] or row[f"{what}_removed"] in elements.values
    last = {row["step"]: row["place"] for row in record["totals"]}
    for row in (row for row in record["top"] if row["place"] == last[row["step"]]):
        assert row["domain"] in elements.text and row["tokens_kept"] in elements.values
    assert "quality of documents of dedup" in page_of_finished(finished)


def test_the_tokenizer_is_shown_with_what_it_makes_of_which_texts(finished):
    (inspection,) = finished.parent.glob("tokenizer-*/inspection.json")
    seen = json.loads(inspection.read_text())
    elements = Elements(page_of_finished(finished))
    values = [seen["heldout"]["bytes_per_token"], seen["last"]["first"][0]["seen"]]
    values += [group["bytes_per_token"] for group in seen["groups"]["language"]]
    assert set(values) <= set(elements.values)
    assert "3.14159, 2024-02-29" in elements.text
    assert seen["longest"]["first"][0]["token"].replace(" ", "\u2423") in elements.text


def test_examples_show_different_reasons_before_more_of_the_same(finished):
    text = Elements(page_of(finished, examples=2)).text
    assert len(re.findall(r"\bde: \d+ < 50", text)) == 1
    assert len(re.findall(r"\bja: \d+ < 50", text)) == 1


def test_no_examples_are_shown_where_none_are_wanted(finished):
    assert "Documents to read" not in page_of(finished, examples=0)


def test_the_same_run_gives_the_same_bytes(finished):
    assert page_of(finished) == page_of_finished(finished)


def test_a_run_of_data_steps_alone_has_a_page_without_training_and_scores(shuffled):
    page = page_of(shuffled, role="documents")
    text = Elements(page).text
    assert "gopher_quality" in text
    assert 'id="training"' not in page
    assert 'id="evaluation"' not in page


def test_a_training_without_data_steps_has_a_page(run):
    train = run.step("train", counts={"steps": 1, "tokens": 8, "parameters": 9, "final_loss": 2.5})
    page = page_of(train, role="model")
    assert 'id="funnel"' not in page
    assert 'id="documents"' not in page
    assert {8, 9, 2.5} <= set(Elements(page).values)


def test_a_step_whose_directory_was_removed_is_named_and_the_rest_is_shown(evaluated):
    (collect,) = evaluated.parent.glob("collect-*")
    (collect / "manifest.json").unlink()
    text = Elements(page_of(evaluated)).text
    assert "Not there any more" in text
    assert str(collect) in text
    assert "gopher_quality" in text


def test_packages_whose_versions_differ_between_steps_are_shown_with_their_steps(evaluated):
    manifest = evaluated / "manifest.json"
    record = json.loads(manifest.read_text())
    record["versions"]["torch"] = "2.14.0"
    manifest.write_text(json.dumps(record))
    text = Elements(page_of(evaluated)).text
    assert "2.14.0 evaluate" in text


def test_a_score_without_error_and_without_chance_is_shown(run):
    line = {"step": 1, "tokens": 5, "task": "t", "form": "text", "metric": "m", "value": -2.25}
    line |= {"stderr": None, "chance": None, "checkpoint": "exports/1", "higher_is_better": False}
    line |= {"items": 1, "truncated": 0, "headline": True}
    scored = run.step("evaluate", files={"scores.jsonl": json.dumps(line).encode() + b"\n"})
    assert -2.25 in Elements(page_of(scored)).values


def test_tiles_are_of_the_four_scores_that_are_furthest_above_chance(run):
    line = {"step": 1, "tokens": 5, "form": "cloze", "metric": "acc", "stderr": 0.01, "chance": 0.2}
    line |= {"checkpoint": "exports/1", "higher_is_better": True, "items": 9, "truncated": 0}
    lines = [
        line | {"task": f"task{n}", "value": 0.2 + n / 100, "headline": True} for n in range(6)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    page = page_of(run.step("evaluate", files={"scores.jsonl": data}))
    tiles = page.partition('class="tiles"')[2].partition("</section>")[0]
    assert re.findall(r"(task\d): accuracy", tiles) == ["task5", "task4", "task3", "task2"]


def test_a_damaged_file_upstream_is_named(evaluated):
    (samples,) = evaluated.parent.glob("inspect-*/samples.parquet")
    samples.write_bytes(b"not parquet")
    with pytest.raises(ArtifactError, match=re.escape(str(samples))):
        page_of(evaluated)


def test_a_page_of_a_long_run_stays_small(run):
    lines = [
        {"step": n, "tokens": n * 1000, "loss": 3 + n % 7, "lr": 1e-3} for n in range(1, 50_001)
    ]
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    train = run.step("train", counts={"final_loss": 3.0}, files={"metrics.jsonl": data})
    assert len(page_of(train, role="model")) < 300_000


def test_what_training_left_out_is_said(run):
    lines = [{"step": n, "tokens": n * 9, "loss": 3.0, "grad_norm": 1.0} for n in range(1, 9)]
    lines[4] |= {"loss": None, "grad_norm": None, "skipped": True}
    data = "".join(json.dumps(line) + "\n" for line in lines).encode()
    back = [{"step": 5, "action": "skip"}, {"step": 7, "action": "roll_back", "to": 6}]
    files = {"metrics.jsonl": data, "bad_steps.json": json.dumps(back).encode()}
    text = Elements(page_of(run.step("train", files=files), role="model")).text
    assert "the loss or the gradient was not finite or a spike: step 5." in text
    assert "At step 7 training went back to step 6 and left out the data between." in text


def test_the_stage_writes_the_page_as_the_framework_runs_it(evaluated):
    from llmhpc import step
    from llmhpc.files import read_json
    from llmhpc.handoff import artifact
    from llmhpc.jobs.report import Config
    from llmhpc.planning.plan import Step, fingerprint, plain

    home = evaluated.parent / "report-12345678"
    (inspection,) = evaluated.parent.glob("inspect-*")
    inputs = {"inspection": inspection, "scores": evaluated}
    stage = Config(needs={"scores": "evaluate", "inspection": "inspect"}, title="quickstart")
    marks = {role: path.name.rpartition("-")[2] for role, path in inputs.items()}
    mark = fingerprint(plain(stage, identity_only=True), marks, 0)
    asked = Step("report", stage, 0, mark, home, inputs)
    artifact.order(asked)
    assert step.main([str(home)]) == 0
    counts = read_json(home / "manifest.json")["counts"]
    assert counts == {"steps": 10, "bytes": (home / "report.html").stat().st_size}
    page = (home / "report.html").read_text()
    assert str(home) in page
    assert "scratch" not in page


def test_the_title_is_the_name_of_the_run():
    from omegaconf import OmegaConf

    from llmhpc.config import Config
    from llmhpc.jobs import report
    from llmhpc.planning.compose import typed

    raw = OmegaConf.structured(Config(name="my_run"))
    raw.stages = {"report": OmegaConf.structured(report.Config)}
    assert typed(raw).stages["report"].title == "my_run"


def test_the_template_files_are_beside_their_sections():
    from llmhpc.report import page

    for section in page.SECTIONS:
        assert Path(section.__file__).with_suffix(".html").exists()
