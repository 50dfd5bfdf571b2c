"""A step learns n-grams of reference documents; the rule drops what is unlike them."""

import json

import pytest
from datatrove.data import Document

from llmhpc.errors import ArtifactError, ConfigError, StageError
from llmhpc.filters import perplexity
from llmhpc.jobs import ngrams

SMALL = {"order": 3, "heldout_fraction": 0.3}


def texts(count, first=0):
    people, places = (
        ("teacher", "doctor", "baker", "miller"),
        ("market", "river", "church", "harbour"),
    )
    return [
        {"id": f"{n}", "text": f"The {people[n % 4]} walked to the {places[n // 4 % 4]} and spoke.\n"
                               f"Nobody saw the {people[n // 7 % 4]} leave the {places[n % 3]} that day."}
        for n in range(first, first + count)
    ]  # fmt: skip


@pytest.fixture(scope="module")
def learned(tmp_path_factory, write_documents, run_stage):
    base = tmp_path_factory.mktemp("ngrams")
    inputs = {"documents": write_documents(base / "in", texts(120))}
    return base / "out", run_stage(ngrams.Config(**SMALL), inputs, base / "out")


def test_the_same_documents_give_the_same_bytes_however_they_are_sharded(
    learned, tmp_path, write_documents, run_stage, files_of
):
    inputs = {"documents": write_documents(tmp_path / "in", texts(120)[::-1], shards=2)}
    run_stage(ngrams.Config(**SMALL), inputs, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(learned[0])


def test_the_step_says_what_share_of_held_out_documents_its_limit_keeps(learned):
    home, counts = learned
    record = json.loads((home / "ngrams" / "perplexity.json").read_text())
    assert 20 < record["heldout"] < 60 and record["max_perplexity"] == counts["max_perplexity"]
    assert record["percentiles"]["0"] <= record["percentiles"]["50"] <= record["max_perplexity"]
    assert counts["ngrams"] > 100


@pytest.mark.parametrize("with_kenlm", [False, True])
def test_the_rule_drops_what_is_unlike_the_reference_and_says_by_how_much(learned, with_kenlm):
    if with_kenlm:
        pytest.importorskip("kenlm", reason="the extra ngrams is not installed")
    block = perplexity.build(
        perplexity.Config(kenlm=with_kenlm, min_perplexity=1.01).of_step(learned[0])
    )
    kept = [block.filter(Document(text=t["text"], id=t["id"])) for t in texts(40, first=200)]
    assert kept.count(True) > 25
    doc = Document(text="xq zz 17 // {} ;; qwerty", id="1")
    assert block.filter(doc) == (False, "too_surprising")
    assert doc.metadata["dropped_because"].endswith(f"> {learned[1]['max_perplexity']:g}")
    assert block.filter(Document(text="", id="2")) == (False, "too_surprising")


def test_what_is_too_predictable_is_dropped_as_well(learned):
    cfg = perplexity.Config(min_perplexity=50, max_perplexity=1e9).of_step(learned[0])
    doc = Document(text=texts(1)[0]["text"], id="1")
    assert perplexity.build(cfg).filter(doc) == (False, "too_predictable")
    assert doc.metadata["dropped_because"].endswith("< 50")


def test_a_step_without_held_out_documents_is_refused(tmp_path, write_documents, run_stage):
    inputs = {"documents": write_documents(tmp_path / "in", texts(3))}
    with pytest.raises(StageError, match="heldout_fraction=0: holds out 0 of 3 documents"):
        run_stage(ngrams.Config(heldout_fraction=0), inputs, tmp_path / "out")


@pytest.mark.parametrize(("settings", "message"), [
    ({"model": "/no.arpa"}, "model=/no.arpa: is not there; an ARPA or KenLM file"),
    ({"model": __file__}, "without .arpa at its end it needs kenlm=true"),
])  # fmt: skip
def test_a_model_that_cannot_be_read_is_named_before_the_launch(settings, message):
    with pytest.raises(ConfigError, match=message):
        perplexity.Config(**settings).before_launch()


def test_a_model_needs_a_limit(tmp_path):
    (tmp_path / "m.arpa").write_text("")
    with pytest.raises(ConfigError, match="max_perplexity is not set: a number, or a model with"):
        perplexity.Config(model=str(tmp_path / "m.arpa")).before_launch()
    with pytest.raises(ArtifactError, match="no ARPA file"):
        perplexity.build(perplexity.Config(model=str(tmp_path / "m.arpa"), max_perplexity=10))


def test_a_sample_that_needs_more_memory_than_asked_for_is_found_before_the_launch(tmp_path):
    def found(**settings):
        return ngrams.Config(**settings).foresee({}, tmp_path, machine_gb=None)

    assert not found()
    (finding,) = found(sample_mb=200)
    assert finding.message.startswith("resources.mem_gb=7: sample_mb=200 takes about 20.3")
    assert finding.estimate
