"""A classifier learns from good and ordinary documents; the rule keeps what it takes for good."""

import json
import random

import pytest
from datatrove.data import Document

from llmhpc.errors import ConfigError, StageError
from llmhpc.filters import quality
from llmhpc.filters.models import supervised
from llmhpc.jobs import classifier
from llmhpc.jobs import filter as stage
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan
from llmhpc.sources import Page, archive
from llmhpc.task import Task

SMALL = {"buckets": 1000, "heldout_fraction": 0.2, "epochs": 20}
WORDS = {
    "good": [
        "theorem",
        "proof",
        "lemma",
        "analysis",
        "history",
        "evidence",
        "therefore",
        "because",
        "method",
        "result",
    ],
    "bad": ["click", "buy", "cheap", "offer", "now", "free", "shipping", "cart", "deal", "price"],
}
BOTH = ["the", "of", "and", "to", "in", "is", "that", "it", "for", "with"]


def texts(side, count):
    rng = random.Random(side)
    return [
        {"id": f"{side}-{n}", "text": "\n".join(" ".join(rng.choices(WORDS[side] + 2 * BOTH, k=8))
                                                for _ in range(3)) + " __label__good"}
        for n in range(count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def inputs(tmp_path_factory, write_documents):
    base = tmp_path_factory.mktemp("sides")
    return {side: write_documents(base / side, texts(side, 200)) for side in WORDS}


@pytest.fixture(scope="module")
def trained(inputs, tmp_path_factory, run_stage):
    home = tmp_path_factory.mktemp("trained")
    return home, run_stage(classifier.Config(**SMALL), inputs, home)


def test_the_same_documents_give_the_same_bytes_however_they_are_sharded(
    trained, tmp_path, write_documents, run_stage, files_of
):
    others = {
        side: write_documents(tmp_path / side, texts(side, 200)[::-1], shards=2) for side in WORDS
    }
    for quantize in (False, True):
        cfg = classifier.Config(**SMALL, quantize=quantize)
        homes = [tmp_path / f"{n}-{quantize}" for n in range(2)]
        for home in homes:
            run_stage(cfg, others, home)
        assert files_of(homes[0]) == files_of(homes[1])
        if not quantize:
            assert files_of(homes[0]) == files_of(trained[0])


def test_the_curve_is_what_the_model_scores_on_documents_it_has_not_seen(trained):
    home, counts = trained
    curve = json.loads((home / "classifier" / "curve.json").read_text())
    assert sorted(p.name for p in (home / "classifier").iterdir()) == ["curve.json", "model.bin"]
    out = curve["heldout"]
    assert counts["trained_on"] == 400 - out["good"] - out["bad"] and 40 < sum(out.values()) < 120
    at = curve["at_threshold"]
    assert at["kept_of_bad"] <= 0.1 and at["recall"] > 0.9
    assert [p["recall"] for p in curve["points"]] == sorted(
        (p["recall"] for p in curve["points"]), reverse=True
    )


def test_precision_and_recall_are_those_of_a_count_by_hand():
    curve = supervised.curve([0.2, 0.6, 0.8, 0.9], [0.1, 0.2, 0.3, 0.7], keep_rate=0.25)
    assert curve["threshold"] == 0.3
    assert curve["at_threshold"] == {
        "threshold": 0.3,
        "precision": 0.75,
        "recall": 0.75,
        "kept_of_bad": 0.25,
    }
    assert curve["points"][0]["precision"] == 0.5 and curve["points"][95]["precision"] == 1.0
    assert supervised.curve([0.5], [0.1, 0.4], keep_rate=0)["at_threshold"]["kept_of_bad"] == 0


def test_the_rule_keeps_good_documents_and_says_what_the_others_score(trained):
    home, counts = trained
    rule = quality.Config().of_step(home)
    block = quality.build(rule)
    kept = {
        side: [block.filter(Document(text=t["text"], id=t["id"])) for t in texts(side, 50)]
        for side in WORDS
    }
    assert kept["good"].count(True) > 45 and kept["bad"].count((False, "not_good")) > 40
    doc = Document(text="buy cheap offer now", id="1")
    assert block.filter(doc) == (False, "not_good")
    limit = f"{counts['threshold']:g}"
    assert doc.metadata["dropped_because"].startswith("probability of good 0")
    assert doc.metadata["dropped_because"].endswith(f"< {limit}")


def test_sets_that_are_too_small_to_hold_some_out_are_refused(tmp_path, write_documents, run_stage):
    sides = {side: write_documents(tmp_path / side, texts(side, 1), shards=1) for side in WORDS}
    with pytest.raises(StageError, match="heldout_fraction=0.2: holds out . of 1 good documents"):
        run_stage(classifier.Config(**SMALL), sides, tmp_path / "out")


def config(needs, **settings):
    return stage.Config(needs=needs, rules={"quality": quality.Config(**settings)})


def test_a_rule_has_one_model_and_one_only():
    with pytest.raises(
        ConfigError, match=r"rules.quality.model is not set: a path, or needs.quality"
    ):
        config({}).check_with({})
    with pytest.raises(ConfigError, match=r"rules.quality.model=x: needs.quality has one already"):
        config({}, model="x").check_with({"quality": classifier.Config()})
    config({}, model="x").check_with({})


def test_a_filter_step_that_needs_a_classifier_changes_with_it(tmp_path):
    base = compose([f"root={tmp_path}"])
    filter_stage = base.stages["filter"]
    base.stages["good"] = stage.Config(needs={"pages": "collect"})
    base.stages["classifier"] = classifier.Config(needs={"good": "good", "bad": "good"})
    filter_stage.rules["quality"] = quality.Config()
    filter_stage.needs["quality"] = "classifier"
    before = {step.name: step for step in plan(base)}
    assert before["filter"].inputs["quality"] == before["classifier"].out
    base.stages["classifier"].epochs = 6
    after = {step.name: step for step in plan(base)}
    assert after["filter"].fingerprint != before["filter"].fingerprint
    filter_stage.needs["qualities"] = "classifier"
    with pytest.raises(ConfigError, match="needs.qualities: filter knows pages, quality"):
        plan(base)


@pytest.mark.parametrize(("settings", "message"), [
    ({"model": "/no.bin"}, "model=/no.bin: is not there; a fastText classifier"),
    ({"model": __file__}, "threshold is not set: a fraction, or a model with curve.json beside it"),
])  # fmt: skip
def test_a_model_that_is_not_whole_is_named_before_the_launch(settings, message):
    with pytest.raises(ConfigError, match=message):
        config({}, **settings).before_launch()


def test_a_label_that_the_model_has_not_is_answered_with_those_it_has(trained):
    rule = quality.Config(label="hq").of_step(trained[0])
    with pytest.raises(ConfigError, match="label=hq: the model has bad, good"):
        quality.build(rule)


def test_a_filter_step_takes_the_model_of_the_step_that_plays_the_rules_name(
    trained, tmp_path, read_documents
):
    pages = [
        Page(url=f"https://example.org/{t['id']}",
             body=f"<html><body><article><p>{t['text']}.</p></article></body></html>".encode())
        for side in WORDS for t in texts(side, 12)
    ]  # fmt: skip
    archive.write(pages, tmp_path / "collect" / "warc" / "00000.warc.gz")
    cfg = stage.Config(rules={"quality": quality.Config(keep_share=0.5)})
    inputs = {"pages": tmp_path / "collect", "quality": trained[0]}
    task = Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path / "out")
    counts = stage.run(cfg, inputs, tmp_path / "out", task)["rules"]["quality"]
    assert counts["in"] == 24 and counts["kept"] + counts["dropped"] == 24
    assert counts["reasons"] == {"not_good": counts["dropped"]}
    spared = [d for d in read_documents(tmp_path / "out") if "spared_by_quality" in d["metadata"]]
    assert len(spared) == counts["spared"]["not_good"] > 0
    assert all(
        "/bad-" in d["metadata"]["url"] for d in read_documents(tmp_path / "out", "removed/quality")
    )
