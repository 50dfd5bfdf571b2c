import json
import math
import random

import numpy as np
import pytest

from llmhpc.dedup import bloom
from llmhpc.dedup.blocks.seen import _Filter
from llmhpc.errors import ConfigError
from llmhpc.jobs import dedup


def by_bloom(ranks=1, **settings):
    return dedup.Config(ranks=ranks, method=bloom.Config(**settings))


@pytest.mark.parametrize("wanted", [0.1, 0.01, 0.001])
def test_false_positives_are_as_frequent_as_wanted(wanted):
    items = 40_000
    numbers = np.random.default_rng(1).integers(0, 2**64, (2 * items, 2), dtype=np.uint64)
    new = _Filter(items, wanted)
    while_filling = new.add(numbers[:items])
    assert new.add(numbers[:items]).all()  # never forgets
    false = np.array(
        [(h << 64 | low) - (1 << 127) in new._bloom for h, low in numbers[items:].tolist()]
    )
    error = math.sqrt(wanted * (1 - wanted) / items)
    assert false.mean() == pytest.approx(wanted, abs=5 * error + 0.1 * wanted)
    assert while_filling.mean() < wanted


@pytest.mark.parametrize("wanted", [0.1, 0.01, 0.001])
def test_the_filter_has_the_bits_of_the_formula(wanted):
    config = bloom.Config(false_positives=wanted)
    size = _Filter(40_000, wanted)._bloom.size_in_bits
    assert size == pytest.approx(config.bits(40_000), rel=0.01)


@pytest.fixture(scope="module")
def documents(prose, with_copies):
    return with_copies(prose(60), 20)


@pytest.mark.parametrize("unit", ["ngram", "document", "paragraph"])
def test_the_later_of_two_copies_goes(
    unit, prose, run_stage, write_documents, read_documents, tmp_path
):
    documents = prose(30)
    copies = [
        d | {"id": f"copy-{n}", "text": d["text"].upper()} for n, d in enumerate(documents[:9])
    ]
    inputs = {"documents": write_documents(tmp_path / "in", documents + copies, shards=1)}
    config = by_bloom(unit=bloom.Unit[unit], false_positives=1e-6)
    counts = run_stage(config, inputs, tmp_path / "out")
    assert counts["duplicates"] == 9
    removed = read_documents(tmp_path / "out", "removed/duplicate")
    assert {d["id"] for d in removed} == {d["id"] for d in copies}
    lines = read_documents(tmp_path / "out", "clusters")
    assert {line["dropped"] for line in lines} == {d["id"] for d in copies}
    assert all(line["kept"] is None and line["similarity"] == 1 for line in lines)


def test_the_share_that_was_seen_decides(
    documents, run_stage, write_documents, read_documents, tmp_path
):
    """One changed word of 120 is in 13 of 108 windows: 0.88 of them were seen."""
    inputs = {"documents": write_documents(tmp_path / "in", documents)}
    for threshold, gone in ((0.85, 20), (0.91, 0)):
        config = by_bloom(2, threshold=threshold, false_positives=1e-6)
        counts = run_stage(config, inputs, tmp_path / str(threshold))
        assert counts["duplicates"] == gone
    lines = read_documents(tmp_path / "0.85", "clusters")
    assert all(line["similarity"] == pytest.approx(95 / 108, abs=0.001) for line in lines)


def test_a_word_that_a_document_repeats_was_not_seen_before(
    run_stage, write_documents, read_documents, tmp_path
):
    documents = [{"id": "1", "text": "again and " * 200, "metadata": {}}]
    inputs = {"documents": write_documents(tmp_path / "in", documents, shards=1)}
    assert run_stage(by_bloom(), inputs, tmp_path / "out")["documents"] == 1


def test_ranks_and_buckets_change_nothing_and_a_rerun_no_byte(
    documents, run_stage, write_documents, read_documents, files_of, tmp_path
):
    inputs, kept = {"documents": write_documents(tmp_path / "in", documents)}, []
    for ranks, buckets in ((1, 1), (3, 2), (3, 1)):
        home = tmp_path / f"{ranks}-{buckets}"
        run_stage(by_bloom(ranks, buckets=buckets, false_positives=1e-9), inputs, home)
        kept.append(sorted(map(json.dumps, read_documents(home))))
    assert kept[0] == kept[1] == kept[2]
    config = by_bloom(3, buckets=2, false_positives=1e-9)
    run_stage(config, inputs, tmp_path / "again", backwards=True)
    assert files_of(tmp_path / "again") == files_of(tmp_path / "3-2")


def test_a_filter_too_large_for_memory_is_made_in_passes(run_stage, write_documents, tmp_path):
    config = bloom.Config(memory_mb=1)
    assert config.passes(100_000) == 1
    assert config.passes(10_000_000) == 12
    assert config.bits(10_000_000) / 12 <= 8_000_000
    rng = random.Random(2)
    documents = [
        {"id": str(n), "text": " ".join(f"{rng.random():.9f}" for _ in range(6000)), "metadata": {}}
        for n in range(6)
    ]
    documents.append(documents[2] | {"id": "copy"})
    inputs = {"documents": write_documents(tmp_path / "in", documents, shards=1)}
    counts = run_stage(by_bloom(memory_mb=1, false_positives=1e-70), inputs, tmp_path / "out")
    assert counts["passes"] == 2
    assert counts["duplicates"] == 1


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"threshold": 0}, "threshold=0: more than 0"),
        ({"false_positives": 1}, "false_positives=1: more than 0 and less than 1"),
        ({"false_positives": 2}, "false_positives=2: a fraction from 0 to 1"),
        ({"ngram_words": 0}, "ngram_words=0: 1 or more"),
    ],
)
def test_settings_that_cannot_be_are_refused(setting, message):
    with pytest.raises(ConfigError, match=message):
        bloom.Config(**setting)
