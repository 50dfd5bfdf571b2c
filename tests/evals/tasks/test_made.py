"""The tasks that need no data of their own: made from templates, held-out documents and training documents."""

import json
import re
from collections import Counter

import pytest
import zstandard

from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals.items import Form, Item
from llmhpc.evals.material.heldout import read_documents
from llmhpc.evals.tasks import (
    Material,
    NothingToAsk,
    arithmetic,
    ask,
    copying,
    grammar,
    induction,
    recall,
    word_order,
)
from llmhpc.evals.tasks.grammar import NOUNS

SUBJECTS = ["radius", "colour", "speed", "owner", "title", "engine", "margin", "layout"]


def name(number):
    """One that no other document has, nor a part of it."""
    return "".join("bdfgklmn"[int(digit)] + "aeiou"[number % 5] for digit in f"{number:03o}")


def shard(path, texts):
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"id": f"{path.stem}-{n}", "text": text}) for n, text in enumerate(texts)]
    frames = [zstandard.ZstdCompressor().compress(f"{line}\n".encode()) for line in lines]
    path.write_bytes(b"".join(frames))  # a frame for each, as several writers leave them
    return path


@pytest.fixture(scope="module")
def material(tmp_path_factory):
    folder = tmp_path_factory.mktemp("material")
    heldout = shard(
        folder / "heldout.jsonl.zst",
        [
            f"The little house number {n} stands near some quiet river. Nobody opens this door before"
            f" night. Short one. We never saw what those {n} people wanted from us."
            f" Whatever {name(n)} said or did, old {name(n)} was the one whom {name(n)} met."
            for n in range(40)
        ],
    )
    facts = [
        f"Here is page {n}. The {subject} of part {n} is the {subject} that {n} builders chose."
        f" It is the best of all things that are known."
        for n in range(12)
        for subject in SUBJECTS
    ]
    shard(folder / "documents" / "00000.jsonl.zst", facts[:50])
    shard(folder / "documents" / "00001.jsonl.zst", facts[50:])
    return Material(heldout, folder / "documents")


NOTHING = Material()


def items(cfg, material=NOTHING) -> list[Item]:
    (asked,) = ask(cfg, "task", material)
    assert (asked.task, asked.form, asked.metric) == ("task", Form.cloze, cfg.metric)
    assert len({item.id for item in asked.items}) == len(asked.items)
    return asked.items


def right(item: Item) -> str:
    return item.choices[item.gold[0]]


@pytest.mark.parametrize("module", [arithmetic, copying, grammar, induction, recall, word_order])
def test_the_same_material_gives_the_same_items_with_the_right_one_at_every_place(module, material):
    found = items(module.Config(), material)
    assert found == items(module.Config(), material)
    golds = Counter(item.gold[0] for item in found)
    assert set(golds) == set(range(len(found[0].choices)))
    assert max(golds.values()) < 1.5 * min(golds.values())
    assert all(len(set(item.choices)) == len(item.choices) for item in found)
    assert len(items(module.Config(items=8), material)) == 8


def test_sums_are_right_and_shown_ones_are_not_asked():
    found = items(arithmetic.Config(items=1000, largest=9, shots=2))
    assert len(found) == 2 * 45 - 2
    for item in found:
        *shown, asked = item.prompt.splitlines()
        assert len(shown) == 2
        for line in [*shown, asked + right(item)]:
            assert eval(line.replace("=", "==")), line
        assert asked not in [line.rsplit(" ", 1)[0] for line in shown]
        assert (item.domain == "addition") == ("+" in asked)


def test_the_next_word_of_a_list_stands_in_it_once(material):
    for item in items(induction.Config(words=7), material):
        whole, begun = (line.split() for line in item.prompt.split("\n"))
        assert len(set(whole)) == 7 and whole[: len(begun)] == begun
        assert right(item) == f" {whole[len(begun)]}"
        assert begun[-1] not in [choice.strip() for choice in item.choices]


def test_too_few_words_are_said(tmp_path):
    heldout = shard(tmp_path / "heldout.jsonl.zst", ["one two three"])
    with pytest.raises(NothingToAsk, match="induction: 3 words in the held-out documents, 8 need"):
        items(induction.Config(), Material(heldout))
    with pytest.raises(
        NothingToAsk, match="copying: 0 rare words twice within 256 characters of 1"
    ):
        items(copying.Config(), Material(heldout))


def test_only_the_right_word_stood_in_the_text_before(material):
    texts = {document.id: document.text for document in read_documents(material.heldout)}
    found = items(copying.Config(context_characters=64), material)
    assert len(found) == 40  # a name for each document, and no other word is rare
    for item in found:
        assert len(item.prompt) <= 64
        assert texts[item.document].count(item.prompt + right(item)) == 1
        assert re.search(rf"(^|\s){right(item).strip()}\s", item.prompt)
        wrong = [choice.strip() for n, choice in enumerate(item.choices) if n != item.gold[0]]
        assert not any(word in item.prompt for word in wrong)
    by_group = Counter(item.group for item in found)
    assert set(by_group.values()) == {4}


def test_a_pair_differs_by_two_words_that_change_places(material):
    texts = {document.id: document.text for document in read_documents(material.heldout)}
    for item in items(word_order.Config(), material):
        assert right(item) in texts[item.document]
        assert item.choices[1 - item.gold[0]] not in texts[item.document]
        wrong = item.choices[1 - item.gold[0]].split(" ")
        words = right(item).split(" ")
        places = [
            n for n, (one, other) in enumerate(zip(words, wrong, strict=True)) if one != other
        ]
        assert len(places) == 2 and places[1] == places[0] + 1 and places[0] > 0
        assert [words[n] for n in places] == [wrong[n] for n in reversed(places)]
        assert 5 <= len(words) <= 20


def test_sentences_agree_in_the_right_one_only():
    singular, plural = set(NOUNS), set(NOUNS.values())
    for item in items(grammar.Config(items=2000)):
        wrong = item.choices[1 - item.gold[0]]
        if item.domain == "verb":
            noun = right(item).split()[1]
            is_one = re.search(r" (is|was|has been) ", right(item)) is not None
            assert (noun in singular) == is_one and (noun in plural) != is_one
            assert (re.search(r" (is|was|has been) ", wrong) is not None) != is_one
        if item.domain == "determiner":
            noun = right(item).rstrip(".").split()[-1]
            assert (" this " in right(item) or " that " in right(item)) == (noun in singular)
    assert {item.domain for item in items(grammar.Config())} == {
        "verb", "verb behind another noun", "determiner", "pronoun",
    }  # fmt: skip


def test_facts_are_those_that_documents_state_once(material):
    found = items(recall.Config(items=40), material)
    assert len(found) == 40
    for item in found:
        subject = re.fullmatch(r"The (\w+) of part (\d+) is", item.prompt)
        assert right(item) == f" the {subject[1]} that {subject[2]} builders chose."
        assert item.alone == "It is"
    by_group = Counter(item.group for item in found)
    assert set(by_group.values()) == {4}


def test_a_held_out_document_is_not_asked_for_its_facts(material, tmp_path):
    text = "The radius of part 3 is the radius that 3 builders chose."
    shard(tmp_path / "documents" / "00000.jsonl.zst", [text] * 4)
    heldout = shard(tmp_path / "00000.jsonl.zst", [text] * 4)  # the same ids
    with pytest.raises(NothingToAsk, match="recall: 0 facts in 0 documents, no four of a kind"):
        items(recall.Config(), Material(heldout, tmp_path / "documents"))
    with pytest.raises(ArtifactError, match=r"needs\.documents: no \*\.jsonl\.zst"):
        items(recall.Config(), Material(heldout))


def test_documents_without_a_sentence_are_said(tmp_path):
    heldout = shard(tmp_path / "heldout.jsonl.zst", ["no sentence here"])
    with pytest.raises(NothingToAsk, match="word_order: no sentence of 5 to 20 words in 1 doc"):
        items(word_order.Config(), Material(heldout))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: arithmetic.Config(largest=2), "largest=2: 3 or more"),
        (lambda: induction.Config(words=4), "words=4: 5 or more"),
        (lambda: copying.Config(context_characters=9), "context_characters=9: 32 or more"),
        (lambda: word_order.Config(min_words=9, max_words=8), "max_words=8: min_words=9 or more"),
        (lambda: word_order.Config().check_length(64), "max_words=20: 16 or less"),
        (lambda: recall.Config(items=0), "items=0: 1 or more"),
    ],
)
def test_settings_that_make_no_sense_are_refused(make, message):
    with pytest.raises(ConfigError, match=message):
        make()
