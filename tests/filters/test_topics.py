"""Documents are kept or dropped by topic: clusters that a step finds, or the labels of a fastText model."""

import json
import random

import pytest
from datatrove.data import Document

from llmhpc.errors import ConfigError, StageError
from llmhpc.filters import topic
from llmhpc.filters.models import clusters, supervised
from llmhpc.jobs import topics

THEMES = {
    "sea": ["harbour", "ship", "sailor", "captain", "wave", "anchor", "fish", "storm"],
    "law": ["court", "judge", "lawyer", "verdict", "trial", "witness", "appeal", "statute"],
    "food": ["oven", "flour", "butter", "recipe", "sugar", "dough", "kitchen", "spoon"],
}
COMMON = ["the", "and", "with", "from", "that"]
SMALL = {"clusters": 3, "documents": 500, "features": 4096}


def texts(count=40):
    rng = random.Random(3)
    return [{"id": f"{theme}-{n}", "text": " ".join(rng.choices(words + COMMON, k=40))}
            for theme, words in THEMES.items() for n in range(count)]  # fmt: skip


@pytest.fixture(scope="module")
def found(tmp_path_factory, write_documents, run_stage):
    base = tmp_path_factory.mktemp("topics")
    inputs = {"documents": write_documents(base / "in", texts())}
    run_stage(topics.Config(**SMALL), inputs, base / "out")
    return base / "out"


def number_of(home, word):
    listed = json.loads((home / "topics" / "topics.json").read_text())["topics"]
    return next(str(t["cluster"]) for t in listed if word in t["terms"])


def test_clusters_are_the_themes_and_topics_json_says_so(found):
    listed = json.loads((found / "topics" / "topics.json").read_text())["topics"]
    assert [t["documents"] for t in listed] == [40, 40, 40]
    for t in listed:
        assert any(set(words) < set(t["terms"]) for words in THEMES.values())


def test_the_same_documents_give_the_same_bytes_however_they_are_sharded(
    found, tmp_path, write_documents, run_stage, files_of
):
    inputs = {"documents": write_documents(tmp_path / "in", texts()[::-1], shards=2)}
    run_stage(topics.Config(**SMALL), inputs, tmp_path / "out")
    assert files_of(tmp_path / "out") == files_of(found)


def test_more_clusters_than_documents_are_refused(tmp_path, write_documents, run_stage):
    inputs = {"documents": write_documents(tmp_path / "in", texts(1))}
    with pytest.raises(StageError, match="clusters=64: there are 3 documents; as many or fewer"):
        run_stage(topics.Config(), inputs, tmp_path / "out")


def test_a_topic_is_dropped_or_the_only_one_kept(found):
    sea = number_of(found, "sailor")
    ship, trial = "The captain and the sailor saw the storm.", "The judge heard the witness."
    for cfg, kept in (
        (topic.Config(drop=[sea]), [False, True]),
        (topic.Config(keep=[sea]), [True, False]),
    ):
        block = topic.build(cfg.of_step(found))
        documents = [Document(text=text, id="1") for text in (ship, trial)]
        assert [block.filter(doc) is True for doc in documents] == kept
        (dropped,) = [doc for doc in documents if "dropped_because" in doc.metadata]
        assert dropped.metadata["dropped_because"].startswith(
            f"topic {dropped.metadata['topic']} (0."
        )


def test_a_text_far_from_every_centre_is_unsure(found):
    block = topic.build(topic.Config(threshold=0.2, drop=["unsure"]).of_step(found))
    doc = Document(text="Quaternions commute rarely.", id="1")
    assert block.filter(doc) == (False, "unsure")
    assert doc.metadata["dropped_because"] == "score of the topic 0 < 0.2"
    assert block.filter(Document(text="", id="2")) == (False, "unsure")


def test_labels_of_a_classifier_are_topics_as_well(tmp_path):
    rows = [(doc["id"].split("-")[0], doc["text"]) for doc in texts()]
    random.Random(0).shuffle(rows)
    supervised.train(rows, tmp_path / "m.bin", dim=10, epoch=20, lr=0.5, bucket=100)
    block = topic.build(topic.Config(model=str(tmp_path / "m.bin"), drop=["law"]))
    assert block.filter(Document(text="the judge and the lawyer", id="1")) == (False, "law")
    assert block.filter(Document(text="sugar and butter", id="2")) is True


@pytest.mark.parametrize(("settings", "message"), [
    ({"keep": ["7"]}, "keep or drop=7: the model has 0, 1, 2 and unsure"),
    ({"keep": ["1"], "drop": ["1"]}, "keep=1: it is in drop, too"),
    ({"model": "/no.bin"}, "model=/no.bin: is not there; a fastText file or clusters.bin"),
])  # fmt: skip
def test_a_choice_that_cannot_work_is_named(found, settings, message):
    with pytest.raises(ConfigError, match=message):
        cfg = topic.Config(**settings)
        cfg.before_launch()
        topic.build(cfg.of_step(found))


def test_clusters_survive_their_file(found, tmp_path):
    one = clusters.load(found / "topics" / "clusters.bin")
    clusters.save(one, tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == (found / "topics" / "clusters.bin").read_bytes()
