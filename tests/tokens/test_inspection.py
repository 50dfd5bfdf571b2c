"""What is said of a tokenizer is so: counted again here in the plainest way."""

import json
from collections import Counter

import pyarrow.parquet as pq
import pytest

from llmhpc.jobs import tokenizer
from llmhpc.tokens import bpe, inspection
from llmhpc.tokens.shards import place

SECRET = " xyzzyqwy"


@pytest.fixture(scope="module")
def pages(prose):
    pages = prose(120)
    for number, page in enumerate(pages):
        page["metadata"]["language"] = "en" if number % 3 else "is"
        page["text"] += f" It has {number * 37} or {number} \u00e9\u4e2d things\n    in it."
    trained = next(page for page in pages if place(page["id"]) > 0.2)
    trained["text"] += SECRET * 40
    return pages


@pytest.fixture(scope="module")
def made(pages, write_documents, run_stage, tmp_path_factory):
    home = tmp_path_factory.mktemp("tokenizer")
    step = write_documents(home / "in", pages)
    run_stage(
        tokenizer.Config(vocab_size=700, heldout_fraction=0.2, ranks=2), {"documents": step}, home
    )
    return home


@pytest.fixture(scope="module")
def seen(made):
    return json.loads((made / "inspection.json").read_text())


@pytest.fixture(scope="module")
def counted(made, pages):
    """Counter of ids in the documents trained on, and in those held out."""
    from tokenizers import Tokenizer

    opened = Tokenizer.from_file(str(made / "tokenizer/tokenizer.json"))
    counts = {True: Counter(), False: Counter()}
    for page in pages:
        counts[place(page["id"]) < 0.2].update(opened.encode(page["text"]).ids)
    return opened, counts


def test_every_token_has_a_row_with_its_counts(made, counted):
    opened, counts = counted
    rows = pq.read_table(made / "vocabulary.parquet").to_pylist()
    assert [row["id"] for row in rows] == list(range(700))
    for row in rows:
        assert (row["seen"], row["heldout"]) == (counts[False][row["id"]], counts[True][row["id"]])
    assert {row["kind"] for row in rows} == {"special", "byte", "blanks", "learned"}
    texts = [r for r in rows if r["kind"] == "learned" and "\\x" not in r["token"]]
    assert all(opened.decode([row["id"]]) == row["token"] for row in texts)
    assert all(row["bytes"] == len(row["token"].encode()) for row in texts)


def test_a_token_was_made_as_often_as_its_merge_was_done(made, counted):
    """Told by the tokenizer itself with only the merges up to that one."""
    from tokenizers import Tokenizer, models

    opened, _ = counted
    rows = pq.read_table(made / "vocabulary.parquet").to_pylist()
    model = json.loads(opened.to_str())["model"]
    shorter = Tokenizer.from_str(opened.to_str())
    for place_of in (50, 200, 400):
        a, b = model["merges"][place_of]
        merges = [tuple(merge) for merge in model["merges"][: place_of + 1]]
        shorter.model = models.BPE(vocab=model["vocab"], merges=merges)
        number = model["vocab"][a + b]
        texts = [row["text"] for row in documents_of(made) if place(row["id"]) >= 0.2]
        made_then = sum(shorter.encode(text).ids.count(number) for text in texts)
        assert rows[number]["made"] == made_then > 0


def documents_of(made):
    from llmhpc.tokens.shards import parse, read_lines, shard_paths

    return [parse(line) for line in read_lines(shard_paths(made / "in"))]


def test_bytes_per_token_are_those_of_the_held_out_documents_by_group(seen, counted, pages):
    opened, counts = counted
    heldout = [page for page in pages if place(page["id"]) < 0.2]
    size = sum(len(page["text"].encode()) for page in heldout)
    assert seen["heldout"]["bytes"] == size
    assert seen["heldout"]["documents"] == len(heldout)
    assert seen["heldout"]["bytes_per_token"] == round(size / counts[True].total(), 4)
    found = {group["group"]: group for group in seen["groups"]["language"]}
    some = [page["text"] for page in heldout if page["metadata"]["language"] == "is"]
    tokens = sum(len(opened.encode(text).ids) for text in some)
    assert found["is"]["bytes_per_token"] == round(sum(len(t.encode()) for t in some) / tokens, 4)
    assert [g["group"] for g in seen["groups"]["domain"]] == ["example.org"]


def test_a_word_of_one_document_and_tokens_only_inside_others_are_candidates(seen, counted):
    _, counts = counted
    alone = [entry["token"] for entry in seen["glitches"]["one_document"]["first"]]
    assert SECRET in alone
    inside = seen["glitches"]["inside_others"]["first"]
    assert any(SECRET.startswith(entry["token"]) for entry in inside)
    assert all(entry["seen"] < entry["made"] / 100 for entry in inside)
    learned = range(258, 700)
    assert seen["unused"]["heldout"]["count"] >= sum(not counts[True][n] for n in learned) - 1


def test_a_token_that_its_own_text_is_not_encoded_to_is_found():
    """ "abc" is made of "ab" and "c" alone, but its text merges "bc" first."""
    from tokenizers import models

    plain = bpe.train_bpe(["x"], 258)
    vocabulary = plain.get_vocab() | {"bc": 258, "ab": 259, "abc": 260}
    plain.model = models.BPE(vocab=vocabulary, merges=[("b", "c"), ("a", "b"), ("ab", "c")])
    found = inspection.Tokens(plain).unreachable()
    assert found.nonzero()[0].tolist() == [260]


def test_longest_and_last_tokens_come_in_order(seen):
    tokens = [entry["token"] for entry in seen["longest"]["first"]]
    lengths = [len(token.encode()) for token in tokens if "\\x" not in token]
    assert lengths == sorted(lengths, reverse=True)
    assert [entry["id"] for entry in seen["last"]["first"]] == list(range(699, 679, -1))


def test_numbers_are_shown_as_they_are_cut_and_counted_in_held_out_text(seen):
    assert seen["numbers"]["examples"]["3.14159"] == [*"3.14159"]
    assert seen["numbers"]["digits_per_token"] == 1
    assert seen["numbers"]["whole_below_1000"] == 10
    assert 1 in seen["blanks"]["runs"]


def test_all_numbers_below_a_thousand_are_whole_where_they_are_tokens(
    pages, write_documents, run_stage, tmp_path
):
    step = write_documents(tmp_path / "in", pages)
    config = tokenizer.Config(
        vocab_size=1500, heldout_fraction=0.2, digits=tokenizer.Digits.up_to_999, blank_run=8
    )
    run_stage(config, {"documents": step}, tmp_path)
    seen = json.loads((tmp_path / "inspection.json").read_text())
    assert seen["kinds"]["number"] == 1100
    assert seen["kinds"]["blanks"] == 7
    assert seen["numbers"]["whole_below_1000"] == 1000
    assert seen["numbers"]["tokens_per_number"] < 1.5
    assert seen["blanks"]["runs"] == list(range(1, 9))
    assert seen["glitches"]["unreachable"]["count"] == 0
