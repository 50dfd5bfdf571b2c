"""A folder of rows is a task: which files, in which order, and under which names."""

import json
import random

import pytest
import zstandard

from llmhpc.errors import ConfigError
from llmhpc.evals.items import Form, Item, read, write


def question(number: int, **more: object) -> dict:
    return {"question": f"What is {number}?", "choices": ["less", f"{number}"], "gold": 1, **more}


def ids(asked) -> list[str]:
    return sorted(item.id for item in asked[0].items)


def test_a_folder_of_json_lines_is_a_task(ask, folder):
    [cloze, letters] = ask("choice", data_dir=folder([question(7, context="numbers are names")]))
    assert (cloze.task, cloze.form, letters.form) == ("name", Form.cloze, Form.letters)
    prompt = "Numbers are names\nQuestion: What is 7?\n"
    assert cloze.items == [
        Item(
            id="test:1",
            prompt=prompt + "Answer:",
            choices=(" Less", " 7"),
            gold=(1,),
            alone="Answer:",
        )
    ]
    assert letters.items == [
        Item(
            id="test:1",
            prompt=prompt + " A. Less\n B. 7\nAnswer:",
            choices=(" A", " B"),
            gold=(1,),
        )
    ]


def test_a_metric_is_for_the_form_that_has_several(ask, folder):
    data = folder([question(0)])
    cloze, letters = ask("choice", data_dir=data, metric="acc_norm_pmi")
    assert (cloze.metric, letters.metric) == ("acc_norm_pmi", "")
    [letters] = ask("choice", data_dir=data, metric="acc", forms=["letters"])
    assert letters.metric == "acc"


def test_what_is_asked_survives_its_file(ask, copied, tmp_path):
    asked = [*ask("winogrande", data_dir=copied("winogrande"))]
    write(tmp_path / "tasks", asked[0])
    assert read(tmp_path / "tasks") == asked


def test_rows_have_their_own_names_or_those_of_their_lines(ask, folder):
    rows = [
        question(0, id=12),
        question(1),
        question(2, id="", group="g", document="d", domain="x"),
    ]
    items = {item.id: item for item in ask("choice", data_dir=folder(rows))[0].items}
    assert set(items) == {"12", "test:2", "test:3"}
    last = items["test:3"]
    assert (last.group, last.document, last.domain) == ("g", "d", "x")


def test_lines_are_counted_on_over_the_files_of_a_split(ask, folder):
    folder([question(0), question(1)], "test-00000-of-00002.jsonl")
    data = folder([question(2)], "test-00001-of-00002.jsonl")
    assert ids(ask("choice", data_dir=data)) == ["test:1", "test:2", "test:3"]


def test_empty_lines_are_no_rows_but_are_counted(ask, folder):
    data = folder([])
    (data / "test.jsonl").write_text(json.dumps(question(0)) + "\n\n" + json.dumps(question(1)))
    assert ids(ask("choice", data_dir=data)) == ["test:1", "test:3"]


@pytest.mark.parametrize("shots", [0, 3])
def test_the_order_of_rows_changes_nothing_but_names(shots, ask, folder):
    rows = [question(n, document=f"d{n % 5}") for n in range(60)]
    named = [row | {"id": f"q{n}"} for n, row in enumerate(rows)]
    asked = []
    for seed in (1, 2):
        for variant in (rows, named):
            shuffled = random.Random(seed).sample(variant, len(variant))
            data = folder(shuffled)
            folder(shuffled[::-1], "train.jsonl")
            asked.append(ask("choice", data_dir=data, shots=shots))
    without, with_names, without_2, with_names_2 = asked
    assert with_names == with_names_2

    def content(asked):
        return [sorted((i.hash, i.gold, i.document) for i in one.items) for one in asked]

    assert content(without) == content(without_2) == content(with_names)


def test_as_many_items_as_are_wanted_are_picked_by_name(ask, folder):
    data = folder([question(n, id=n) for n in range(50)])
    few, more = (ids(ask("choice", data_dir=data, items=most)) for most in (10, 30))
    assert len(few) == 10
    assert set(few) < set(more)


def test_a_task_can_be_a_part_of_the_rows(ask, folder):
    data = folder([question(n, topic="odd" if n % 2 else "even") for n in range(6)])
    assert ids(ask("choice", data_dir=data, where="topic == 'odd'")) == [
        "test:2",
        "test:4",
        "test:6",
    ]
    with pytest.raises(ConfigError, match="split=test: no rows with topic == 'none' in"):
        ask("choice", data_dir=data, where="topic == 'none'")


@pytest.mark.parametrize("file", [
    "test.jsonl", "test.parquet", "data/test-00000-of-00001.parquet", "sub/test-00000-of-00001-0a1b.parquet",
    "sub/test/0000.parquet", "mine_test.jsonl", "test_0.jsonl",
])  # fmt: skip
def test_a_split_is_found_where_the_hub_and_people_put_it(file, ask, folder):
    folder([question(5)], "train.jsonl")
    folder([question(6)], "test_pilot.jsonl")
    folder([question(7)], "contest.jsonl")
    data = folder([question(n) for n in range(3)], file)
    assert len(ids(ask("choice", data_dir=data, subset="sub"))) == 3


def test_one_row_is_the_same_in_every_format(ask, folder, row):
    rows = [row("arc_easy") | {"id": str(n), "question": f"{n}?"} for n in range(8)]
    data = folder(rows, "a/test.jsonl")
    lines = (data / "a/test.jsonl").read_bytes()
    folder(rows, "b/test.parquet")
    folder([], "c/test.jsonl").joinpath("c/test.jsonl").unlink()
    packed = zstandard.ZstdCompressor().compress
    (data / "c/test.jsonl.zst").write_bytes(packed(lines[:100]) + packed(lines[100:]))
    first, *others = (
        ask("arc_easy", data_dir=data / name, shots=2, few_shot_split="test") for name in "abc"
    )
    assert len(first[0].items) == 8
    assert others == [first, first]


def test_a_pair_is_two_whole_texts_and_the_right_one_stands_first_as_often_as_last(ask, folder):
    rows = [{"good": f"He sees {n}.", "bad": f"He see {n}."} for n in range(200)]
    [asked] = ask("pairs", data_dir=folder(rows))
    assert asked.form is Form.cloze
    for item in asked.items:
        assert item.prompt == ""
        assert item.alone is None
        assert [choice.split()[1] for choice in item.choices] == (
            ["see", "sees"] if item.gold == (1,) else ["sees", "see"]
        )
    assert 70 < sum(item.gold == (1,) for item in asked.items) < 130


def test_the_two_of_a_pair_can_be_called_otherwise(ask, folder):
    rows = [{"sentence_good": "He sees.", "sentence_bad": "He see.", "field": "syntax"}]
    names = {"good": "{{ sentence_good }}", "bad": "{{ sentence_bad }}", "domain": "field"}
    [item] = ask("pairs", data_dir=folder(rows), **names)[0].items
    assert set(item.choices) == {"He sees.", "He see."}
    assert item.domain == "syntax"


def test_a_text_is_asked_as_it_is(ask, folder):
    rows = [{"text": " Two {{ braces }} and\r\nlines\n", "domain": "code"}]
    [asked] = ask("text", data_dir=folder(rows))
    assert asked.form is Form.text
    assert asked.items == [
        Item(id="test:1", choices=(" Two {{ braces }} and\r\nlines\n",), domain="code")
    ]


def test_a_target_is_scored_behind_its_prompt(ask, folder):
    [asked] = ask("target", data_dir=folder([{"prompt": "Two and two is", "target": " four"}]))
    assert asked.form is Form.target
    assert asked.items == [Item(id="test:1", prompt="Two and two is", choices=(" four",))]


def test_what_is_written_has_accepted_answers(ask, folder):
    rows = [{"prompt": "Q: 2+2?\nA:", "answers": ["4", "four"]}]
    fields = {"temperature": 0.5, "samples": 3, "stop": ["\n", "Q:"], "max_tokens": 5, "seed": 7}
    [asked] = ask("written", data_dir=folder(rows), **fields)
    assert asked.items == [Item(id="test:1", prompt="Q: 2+2?\nA:", choices=("4", "four"))]
    assert asked.writing._asdict() == {**fields, "stop": ("\n", "Q:"), "answer": ""}


def test_a_continuation_begins_with_the_context(ask, folder):
    rows = [
        {
            "context": "It rained. ",
            "question": "so we",
            "choices": ["Went home.", "sang"],
            "gold": 0,
        }
    ]
    [cloze, letters] = ask("choice", data_dir=folder(rows), template="continuation")
    assert cloze.items[0].prompt == "It rained. so we"
    assert cloze.items[0].choices == (" went home.", " sang")
    assert letters.items[0].prompt == "It rained. so we\n A. went home.\n B. sang\nAnswer:"
