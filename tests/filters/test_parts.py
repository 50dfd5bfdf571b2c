"""What rules take out of documents that go on can be read beside what they drop, but for what was masked."""

import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llmhpc.filters import c4, lines, pii
from llmhpc.filters.blocks.parts import taken_out
from llmhpc.jobs import filter as stage

SENTENCE = "The harbour was quiet that morning, and nobody saw the boat leave."
TEXTS = {
    "clean": f"{SENTENCE}\n{SENTENCE}",
    "counter": f"{SENTENCE}\n3 likes\n{SENTENCE}\n12 views",
    "address": f"{SENTENCE}\nWrite to ann.b@mail.uni-x.de today, she answers every one of us.",
    "nothing": "3 likes",
}


@pytest.fixture(scope="module", params=[{}, {"other.org": {"keep_share": 0.0}}])
def filtered(request, tmp_path_factory, write_documents, run_stage):
    """A filter step with rules as they are, and with other values for some addresses."""
    documents = [{"text": t, "id": i, "metadata": {"url": f"https://a.org/{i}"}} for i, t in TEXTS.items()]  # fmt: skip
    base = tmp_path_factory.mktemp("parts")
    rules = {"lines": lines.Config(where=request.param), "pii": pii.Config(where=request.param)}
    inputs = {"pages": write_documents(base / "in", documents, shards=2)}
    counts = run_stage(stage.Config(rules=rules, ranks=2), inputs, base / "out")
    return base / "out", counts


def test_lines_that_were_taken_out_are_a_part_with_their_size(filtered, read_documents):
    home, counts = filtered
    by_id = {d["id"]: d for d in read_documents(home, "removed/lines")}
    assert set(by_id) == {"counter", "nothing"}
    part = by_id["counter"]
    assert part["text"] == "3 likes\n12 views"
    assert part["metadata"]["whole"] is False and part["metadata"]["dropped_by"] == "lines"
    (kept,) = [d for d in read_documents(home) if d["id"] == "counter"]
    size = len(TEXTS["counter"].encode()) - len(kept["text"].encode())
    assert part["metadata"]["bytes_removed"] == size
    assert by_id["nothing"]["metadata"].get("whole", True)
    assert counts["rules"]["lines"]["dropped"] == 1


def test_of_what_was_masked_only_the_size_is_kept(filtered, read_documents):
    home, _ = filtered
    (part,) = read_documents(home, "removed/pii")
    assert part["id"] == "address" and part["text"] == ""
    assert part["metadata"]["bytes_removed"] == len("ann.b@mail.uni-x.de") - len(
        "email@example.com"
    )
    for folder in ("documents", "removed/lines", "removed/pii"):
        assert "ann.b@" not in json.dumps(read_documents(home, folder))


def test_a_line_that_c4_changed_stands_there_as_it_was(
    tmp_path, write_documents, run_stage, read_documents
):
    text = "\n".join([f"{SENTENCE}[1]", SENTENCE, "We use cookies on this page, as everyone does."])
    documents = [{"text": text, "id": "1", "metadata": {}}]
    inputs = {"pages": write_documents(tmp_path / "in", documents, shards=1)}
    run_stage(stage.Config(rules={"c4": c4.Config(min_sentences=1)}), inputs, tmp_path / "out")
    (part,), (kept,) = (read_documents(tmp_path / "out", f) for f in ("removed/c4", "documents"))
    assert part["text"] == f"{SENTENCE}[1]\nWe use cookies on this page, as everyone does."
    size = len(text) - len(kept["text"])
    assert part["metadata"]["bytes_removed"] == size


LINES = st.lists(st.sampled_from(["a", "b", "  c ", "", "d e"]))


@given(LINES, st.data())
def test_what_is_left_and_what_was_taken_out_are_all_there_was(before, data):
    keeps = data.draw(st.lists(st.booleans(), min_size=len(before), max_size=len(before)))
    after = [line for line, keep in zip(before, keeps, strict=True) if keep]
    gone = taken_out("\n".join(before), "\n".join(after)).splitlines()
    assert Counter(gone) + Counter(filter(str.strip, after)) == Counter(filter(str.strip, before))
