"""Every rule can keep a share of what it would drop, and have other values for some addresses."""

import json

import pytest
from datatrove.data import Document

from llmhpc.config import Stage
from llmhpc.errors import ConfigError
from llmhpc.filters import fineweb, gopher_quality
from llmhpc.filters.blocks.chain import _block
from llmhpc.jobs import filter as stage
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plain
from llmhpc.planning.registry import revive

SHORT = "The cat and the dog have a house."


def decide(rule, documents, name="quality"):
    block = _block(name, rule, None)
    return [doc.id for doc in block.run(iter(documents))], block


def documents(count=1000):
    return [Document(text=SHORT, id=f"id-{n}", metadata={"url": f"https://example.org/{n}"})
            for n in range(count)]  # fmt: skip


def test_a_share_of_what_would_be_dropped_is_kept_whatever_the_order():
    kept, block = decide(gopher_quality.Config(keep_share=0.3), documents())
    assert 250 < len(kept) < 350  # 300, standard deviation 14.5
    assert block.stats.stats["spared_gopher_short_doc"].total == len(kept)
    again, _ = decide(gopher_quality.Config(keep_share=0.3), documents()[::-1])
    assert sorted(again) == sorted(kept)
    more, _ = decide(gopher_quality.Config(keep_share=0.4), documents())
    assert set(kept) < set(more)


def test_rules_choose_what_they_keep_independently_of_each_other():
    one, two = (set(decide(gopher_quality.Config(keep_share=0.5), documents(), name)[0])
                for name in ("one", "two"))  # fmt: skip
    assert 200 < len(one & two) < 300


def test_a_document_that_was_spared_says_why_it_would_have_been_dropped():
    (doc,) = documents(1)
    assert _block("quality", gopher_quality.Config(keep_share=1), None).filter(doc) is True
    assert doc.metadata["spared_by_quality"] == "words 8 < 50"
    assert doc.text == SHORT and "dropped_because" not in doc.metadata


def test_nothing_is_kept_of_what_is_dropped_by_default():
    assert decide(gopher_quality.Config(), documents(50))[0] == []


@pytest.mark.parametrize(("url", "kept"), [
    ("https://example.org/a", True),
    ("http://forum.Example.org:8080/a", True),
    ("https://badexample.org/a", False),
    ("https://example.org/long/a", False),  # a pattern goes before a domain
    ("https://example.org/long/but/a", True),  # the longer pattern before the shorter
    ("https://deep.sub.example.org/", False),  # the longer domain before the shorter
    ("", False),
])  # fmt: skip
def test_an_address_has_the_values_of_the_closest_key(url, kept):
    where = {
        "example.org": {"min_words": 5},
        "sub.example.org": {"min_words": 60},
        "*example.org/long/*": {"min_words": 70},
        "*example.org/long/but/*": {"min_words": 1},
    }
    for table in (where, dict(reversed(where.items()))):
        doc = Document(text=SHORT, id="1", metadata={"url": url})
        decided = _block("quality", gopher_quality.Config(where=table), None).filter(doc)
        assert (decided is True) == kept


def test_an_address_can_have_its_own_share():
    where = {"example.org": {"keep_share": 1.0}}
    assert len(decide(gopher_quality.Config(where=where), documents(20))[0]) == 20


def test_a_document_without_an_address_is_judged_by_the_general_values():
    block = _block("quality", gopher_quality.Config(where={"example.org": {"min_words": 1}}), None)
    assert block.filter(Document(text=SHORT, id="1")) == (False, "gopher_short_doc")


@pytest.mark.parametrize(("rule", "message"), [
    (gopher_quality.Config(keep_share=2), "rules.q.keep_share=2: a fraction from 0 to 1"),
    (gopher_quality.Config(where={"a.org": {"min_words": -1}}),
     r"rules.q.where\[a.org\].min_words=-1: 0 or more"),
    (gopher_quality.Config(where={"a.org": {"min_word": 1}}),
     r"rules.q.where\[a.org\].min_word: no such value; keep_share, min_words"),
    (gopher_quality.Config(where={"a.org": {"min_words": "many"}}), r"where\[a.org\].*'many'"),
    (fineweb.Config(where={"a.org": {"keep_share": -1}}), r"where\[a.org\].keep_share=-1"),
])  # fmt: skip
def test_a_wrong_value_is_named_with_its_key(rule, message):
    with pytest.raises(ConfigError, match=message) as caught:
        stage.Config(rules={"q": rule})
    assert "\n" not in str(caught.value)


def test_both_can_be_set_from_the_command_line_and_survive_json():
    cfg = compose([
        "stages.filter.rules.c4.keep_share=0.01",
        "stages.filter.rules.c4.where={example.org:{min_sentences:1},*.edu/*:{min_sentences:2}}",
    ])  # fmt: skip
    rule = cfg.stages["filter"].rules["c4"]
    assert rule.keep_share == 0.01
    assert {key: v.min_sentences for key, v in rule.variants().items()} == {
        "example.org": 1,
        "*.edu/*": 2,
    }
    assert (
        revive(Stage, json.loads(json.dumps(plain(cfg.stages["filter"])))) == cfg.stages["filter"]
    )
    with pytest.raises(ConfigError, match=r"^stages.filter.rules.c4.where\[a\].min_sentences=-1"):
        compose(["stages.filter.rules.c4.where={a:{min_sentences:-1}}"])
