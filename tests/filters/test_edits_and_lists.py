"""Rules that edit the text (lines, pii), look at the address (url), or for evaluation sets (decontamination)."""

import json

import pytest
from datatrove.data import Document

from llmhpc.errors import ConfigError
from llmhpc.filters import decontamination, language, lines, pii, url
from llmhpc.filters.blocks import chain
from llmhpc.jobs import filter as stage


def judge(rule, cfg, text, **metadata):
    doc = Document(text=text, id="1", metadata=metadata)
    return rule.build(cfg).filter(doc), doc


GOOD = "The harbour was quiet that morning, and nobody saw the boat leave.\n"


@pytest.mark.parametrize("line", [
    "Please enable JavaScript to view this page.",
    "This site uses cookies to give you the best experience.",
    "3 likes", "1.2k views", "2024-01-02 10:15", "Read more...", "Sign in to your account",
    "ABOUT OUR COMPANY",
])  # fmt: skip
def test_a_line_that_is_no_text_goes_and_the_others_stay(line):
    kept, doc = judge(lines, lines.Config(), f"{GOOD}{line}\n{GOOD}")
    assert kept is True and doc.text == GOOD + GOOD


@pytest.mark.parametrize("line", [
    "He had 3 likes in the first hour, which surprised him.", "A NATO report", "東京は日本の首都です。",
    "She learned to read more than her teachers could give her in a single year of school.", "Overview",
])  # fmt: skip
def test_a_line_of_text_stays(line):
    kept, doc = judge(lines, lines.Config(), GOOD + line)
    assert kept is True and doc.text == GOOD + line


def test_addresses_in_the_text_go_where_asked_for():
    text = f"{GOOD}\n\n\nSee (https://example.org/a?b=c), or www.example.com.\n"
    kept, doc = judge(lines, lines.Config(addresses=True), text)
    assert kept is True and doc.text == f"{GOOD}\nSee (), or .\n"
    assert judge(lines, lines.Config(), text)[1].text == text


def test_a_document_that_loses_too_many_words_is_dropped_as_it_came():
    text = f"{GOOD}3 likes\n"
    cfg = lines.Config(max_removed_words=0.05)
    kept, doc = judge(lines, cfg, text)
    assert kept == (False, "too_many_removed_words")
    assert doc.text == text and doc.metadata["dropped_because"] == "removed_words 0.1429 > 0.05"
    kept, doc = judge(lines, lines.Config(), "3 likes\n")
    assert kept == (False, "nothing_left")


def test_emails_and_public_addresses_are_masked_whatever_came_before():
    text = "Write to ann.b@mail.uni-x.de or 8.8.8.8, not to 192.168.0.1 or version 1.2.3."
    block = pii.build(pii.Config())
    for _ in range(3):
        doc = Document(text=text, id="1")
        assert block.filter(doc) is True
        assert doc.text == (
            "Write to email@example.com or 192.0.2.1, not to 192.168.0.1 or version 1.2.3."
        )
        assert block.filter(doc) is True  # what is masked already is not counted again
    stats = block.judge.stats.stats
    assert (
        stats["edit-emails"].total == stats["edit-ips"].total == stats["edit-documents"].total == 3
    )


def test_telephone_numbers_are_masked_where_asked_for():
    text = "Call (212) 555-4567 or 212-555-4567; order 20231231235959 is no number."
    _, doc = judge(pii, pii.Config(phones=True), text)
    assert doc.text == "Call 555-0100 or 555-0100; order 20231231235959 is no number."
    assert judge(pii, pii.Config(), text)[1].text == text


def test_a_list_of_addresses_of_people_is_dropped():
    text = " ".join(f"a{n}@b.org" for n in range(6))
    kept, doc = judge(pii, pii.Config(max_found=5), text)
    assert kept == (False, "too_much_pii") and doc.metadata["dropped_because"] == "pii 6 > 5"
    assert doc.text == text


@pytest.mark.parametrize(("address", "because"), [
    ("https://www.bad.co.uk/x", "domain bad.co.uk is listed"),
    ("https://sub.fine.org/x", "domain sub.fine.org is listed"),
    ("https://ok.org/one", "the address is listed"),
    ("https://ok.org/a-casino-b", "word casino in the address"),
    ("https://ok.org/poker/bet", "soft words 2 >= 2: bet, poker"),
    ("https://ok.org/xxcheapviagraxx", "part of a word viagra in the address"),
    ("https://ok.org/poker", None),
    ("https://other.bad.org/", None),
    ("", None),
])  # fmt: skip
def test_an_address_is_dropped_for_what_is_listed(tmp_path, address, because):
    (tmp_path / "domains").write_text("# of ours\nbad.co.uk\nsub.fine.org\n")
    cfg = url.Config(
        builtin_lists=False, domain_file=str(tmp_path / "domains"), urls=["https://ok.org/one"],
        words=["casino"], soft_words=["bet", "poker"], subwords=["viagra"],
    )  # fmt: skip
    kept, doc = judge(url, cfg, "text", url=address)
    assert (kept is True) == (because is None)
    assert doc.metadata.get("dropped_because") == because


@pytest.mark.slow
def test_the_lists_in_the_wheel_are_read_without_a_network(tmp_path, monkeypatch):
    doc = Document(text="", id="1", metadata={"url": "https://xvideos.com/1"})
    assert url.build(url.Config()).filter(doc)[0] is False
    assert doc.metadata["dropped_because"] == "domain xvideos.com is listed"


ITEM = {
    "question": "Which of the following rivers is the longest river that flows through Europe today?",
    "choices": ["The Volga", "The Danube"],
}


def write_set(path, items):
    path.write_text("".join(json.dumps(item) + "\n" for item in items))
    return str(path)


def test_a_document_with_a_piece_of_an_evaluation_set_is_dropped_and_says_which(tmp_path):
    write_set(tmp_path / "geo.test.jsonl", [ITEM])
    cfg = decontamination.Config(files=[str(tmp_path / "*.jsonl")])
    leak = GOOD + "which of the following rivers, is the LONGEST river that flows through europe"
    kept, doc = judge(decontamination, cfg, leak + " now? " + GOOD)
    assert kept == (False, "geo")
    assert doc.metadata["dropped_because"] == (
        "n-grams of geo 1 > 0: 'which of the following rivers is the longest river that flows "
        "through europe'"
    )
    near = leak.replace("LONGEST", "shortest")
    assert judge(decontamination, cfg, near)[0] is True
    assert (
        judge(decontamination, decontamination.Config(files=cfg.files, max_hits=1), leak)[0] is True
    )


def test_a_short_item_is_found_as_a_whole_and_a_very_short_one_not(tmp_path):
    (tmp_path / "short.txt").write_text("The Danube flows into the black Sea today.\nThe Volga\n")
    cfg = decontamination.Config(files=[str(tmp_path / "short.txt")])
    assert judge(decontamination, cfg, "the Danube flows into the Black Sea today!")[0] == (
        False,
        "short",
    )
    assert judge(decontamination, cfg, "The Volga and the Danube flow")[0] is True


def test_only_the_named_fields_count(tmp_path):
    path = write_set(tmp_path / "geo.jsonl", [ITEM])
    with pytest.raises(ConfigError, match="no text of 8 words"):
        decontamination.build(decontamination.Config(files=[path], fields=["choices"]))
    index = decontamination.read_index(decontamination.Config(files=[path], fields=["question"]))
    assert len(index) == 14 - 13 + 1


@pytest.mark.parametrize(("rule", "message"), [
    (decontamination.Config(files=["/no/*.jsonl"]), "files=/no/[*].jsonl: no such file"),
    (url.Config(domain_file="/no/list"), "domain_file=/no/list: is not there"),
    (language.Config(where={"a.org": {"model": "/no.bin"}}), r"^rules.r.where\[a.org\].model=/no.bin: /no.bin is"),
])  # fmt: skip
def test_a_file_that_is_not_there_is_named_before_the_launch(rule, message):
    with pytest.raises(ConfigError, match=message):
        stage.Config(rules={"r": rule}).before_launch()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ConfigError, match="builtin_lists=false: then name"):
        url.Config(builtin_lists=False)
    with pytest.raises(ConfigError, match=r"files=\[\]: one or more"):
        decontamination.Config()
    with pytest.raises(ConfigError, match="ngram_words=5: 8 or more"):
        decontamination.Config(files=["x"], ngram_words=5)


def test_a_language_is_told_from_the_beginning_if_that_is_wanted():
    text = GOOD * 3 + "Der Hafen war an diesem Morgen ganz still und niemand sah das Boot. " * 12
    _, whole = judge(language, language.Config(), text)
    kept, start = judge(language, language.Config(first_characters=len(GOOD) * 3), text)
    assert whole.metadata["language"] == "de"
    assert kept is True and start.metadata["language"] == "en" and start.text == text


def test_a_language_beyond_the_first_k_counts_as_absent():
    mixed = "The harbour was quiet. Der Hafen war still. " * 4
    cfg = {"languages": ["en", "de"], "threshold": 0.01}
    both = [judge(language, language.Config(**cfg | {"languages": [code]}, top_k=k), mixed)[0] is True
            for code in ("en", "de") for k in (0, 1)]  # fmt: skip
    assert both[0] and both[2] and [both[1], both[3]].count(True) == 1


def test_edits_are_counted_for_every_variant_of_a_rule():
    rule = lines.Config(where={"a.org": {"policy": False}})
    block = chain._block("lines", rule, None)
    documents = [Document(text=f"{GOOD}3 likes\nWe use cookies.", id=str(n), metadata={"url": address})
                 for n, address in enumerate(["https://a.org/", "https://b.org/"])]  # fmt: skip
    assert len(list(block.run(iter(documents)))) == 2
    counts = chain._counts(block)
    assert counts["lines"] == {"counter": 2, "policy": 1}
    assert counts["edits"] == {"characters removed": 8 + 8 + 16, "documents": 2}
