"""What is wrong with a task is one line at launch, and the same again when it is asked."""

import json
import re

import pytest

from llmhpc.errors import ConfigError
from llmhpc.evals.tasks import Material
from llmhpc.planning.registry import load

GOOD = {"question": "Where?", "choices": ["here", "there"], "gold": 0}


@pytest.fixture
def refused(task):
    """The message of a task that cannot be asked."""

    def message(choice: str, **fields: object) -> str:
        messages = []
        for act in ("launch", "ask"):
            with pytest.raises(ConfigError) as error:
                cfg = task(choice, **fields)
                if act == "launch":
                    cfg.before_launch()
                load("task", cfg.kind).ask(cfg, "name", Material())
            messages.append(str(error.value))
        assert messages[0] == messages[1]
        assert "\n" not in messages[0]
        return messages[0]

    return message


WRONG_ROWS = [  # kind, what is wrong, fields of the row, the message behind file and line
    ("choice", {"question": None}, "question: 'question' is undefined; the row has choices, gold"),
    ("choice", {"choices": None}, "choices: 'choices' is undefined; the row has question, gold"),
    ("choice", {"choices": "here"}, "choices: 'here' is no list of strings"),
    ("choice", {"choices": ["here", 2]}, "choices: ['here', 2] is no list of strings"),
    ("choice", {"choices": ["here", ""]}, "choices: ['here', ''] is no list of strings"),
    ("choice", {"choices": ["here"]}, "choices: ['here'] has 1, 2 or more needed"),
    ("choice", {"choices": ["x"] * 27}, "choices: 27, more than there are letters"),
    ("choice", {"gold": 2}, "gold: 2 where 0 to 1 is right"),
    ("choice", {"gold": -1}, "gold: -1 where 0 to 1 is right"),
    ("choice", {"gold": "A"}, "gold: 'A' where 0 to 1 is right"),
    ("choice", {"gold": ""}, "gold: '' where 0 to 1 is right"),
    ("choice", {"gold": True}, "gold: True where 0 to 1 is right"),
    ("choice", {"gold": []}, "gold: [] where 0 to 1 is right"),
    ("choice", {"id": ["x"]}, "id: ['x'] is no name"),
    ("target", {"prompt": "", "target": "x"}, "prompt: '{{ prompt }}' gives an empty text"),
    ("target", {"prompt": "x"}, "target: 'target' is undefined; the row has"),
    ("written", {"prompt": "x", "answers": []}, "answers: [] has 0, 1 or more needed"),
    ("pairs", {"good": "x", "bad": "x"}, "bad: the same as good: 'x'"),
    ("text", {"text": " \n"}, "text: '{{ text }}' gives an empty text"),
]


@pytest.mark.parametrize(("kind", "fields", "message"), WRONG_ROWS)
def test_a_wrong_row_is_named_by_file_line_and_field(kind, fields, message, refused, folder):
    good = {"prompt": "p", "target": " t", "answers": ["a"], "good": "g", "bad": "b", "text": "t"}
    row = {k: v for k, v in (GOOD | fields).items() if v is not None}
    if kind != "choice":
        row = fields
    data = folder([GOOD | good, row])
    setting, what = message.split(": ", 1)
    refusal = refused(kind, data_dir=str(data))
    assert refusal.startswith(f"{setting}: {data}/test.jsonl:2: {what}")


def test_an_expression_that_fails_names_its_row(refused, folder, row):
    data = folder([row("arc_easy") | {"answerKey": "9"}])
    message = refused("arc_easy", data_dir=str(data))
    assert message == (
        f"gold: {data}/test.jsonl:1: '9' is not in list; the row has id, question, choices, answerKey"
    )


def test_a_row_without_an_answer_is_refused_not_guessed(refused, folder, row):
    for name, split in (("hellaswag", "label"), ("winogrande", "answer"), ("siqa", "label")):
        data = folder([row(name) | {split: ""}], "validation.jsonl")
        assert refused(name, data_dir=str(data)).startswith(f"gold: {data}/validation.jsonl:1: ")


def test_lines_that_are_no_json_are_named(refused, folder):
    data = folder([GOOD])
    for line, message in (
        ("{'a': 1}", ":2: not JSON (.*)"),
        ("[1, 2]", r":2: \[1, 2\] is no table of fields"),
    ):
        (data / "test.jsonl").write_text(json.dumps(GOOD) + "\n" + line + "\n")
        assert re.fullmatch(f"split: .*test.jsonl{message}", refused("choice", data_dir=str(data)))


@pytest.mark.parametrize("suffix", ["jsonl.zst", "parquet"])
def test_a_damaged_file_is_named(suffix, refused, folder):
    data = folder([], "train.jsonl")
    (data / f"test.{suffix}").write_bytes(b"\x28\xb5\x2f\xfdPAR1 and nothing more PAR1")
    assert refused("choice", data_dir=str(data)).startswith(f"split: {data}/test.{suffix}: ")


@pytest.mark.parametrize(("fields", "message"), [
    ({"choices": "choices["}, "choices='choices[': "),
    ({"question": "{{ question"}, "question='{{ question': "),
    ({"gold": "gold +"}, "gold='gold +': "),
    ({"where": "a b"}, "where='a b': "),
])  # fmt: skip
def test_what_does_not_compile_is_said_before_any_row_is_read(fields, message, refused, folder):
    assert refused("choice", data_dir=str(folder([])), **fields).startswith(message)


@pytest.mark.parametrize("text", ["{{ question.__class__ }}", "{{ choices.append('x') }}"])
def test_a_template_only_reads_its_row(text, refused, folder):
    data = folder([GOOD])
    message = refused("choice", data_dir=str(data), question=text)
    assert re.match(f"question: {data}/test.jsonl:1: (.*unsafe|.*not safely callable)", message)


def test_two_rows_of_one_name_are_refused(refused, folder):
    data = folder([GOOD | {"id": "a"}, GOOD | {"id": "b"}, GOOD | {"id": "a"}])
    file = f"{data}/test.jsonl"
    assert refused("choice", data_dir=str(data)) == (f"id: {file}:3: a is also that of {file}:1")


def test_the_splits_that_are_there_are_named(refused, folder):
    folder([GOOD], "dev-00000-of-00001.parquet")
    data = folder([GOOD], "a/train.jsonl")
    assert refused("choice", data_dir=str(data), subset="a") == (
        f"split=test: no file of subset=a in {data}; there: a, dev, train"
    )
    assert refused("choice", data_dir=str(data), split="dev", shots=1) == (
        f"few_shot_split=train: no file in {data}; there: a, dev"
    )
    assert refused("choice", data_dir=f"{data}/none") == f"data_dir={data}/none: no such folder"


def test_a_split_without_rows_is_refused(refused, folder):
    data = folder([])
    assert refused("choice", data_dir=str(data)) == f"split=test: no rows in {data}"


@pytest.mark.parametrize(("files", "message"), [
    (["a_test.jsonl", "b_test.jsonl"], "split=test: .* has a_test and b_test; name the one"),
    (["test.jsonl", "test.parquet"], "split=test: .*test.jsonl or test.parquet; leave one of them there"),
    (["test-00000-of-00003.jsonl", "test-00002-of-00003.jsonl"], "split=test: 2 of 3 files like .*jsonl$"),
])  # fmt: skip
def test_files_that_could_be_read_in_two_ways_are_refused(files, message, refused, folder):
    for file in files:
        data = folder([GOOD], file)
    assert re.match(message, refused("choice", data_dir=str(data)))


@pytest.mark.parametrize(("kind", "fields", "message"), [
    ("choice", {"forms": []}, "forms=[]: cloze, letters or both"),
    ("choice", {"forms": ["text"]}, "forms=['text']: cloze, letters or both"),
    ("choice", {"template": "plain"}, "forms=[cloze,letters]: one of them, as template=plain lists no letters"),
    ("choice", {"leads": "x"}, "leads=x: with template=plain only"),
    ("choice", {"opening": "x"}, "opening=x: with template=hellaswag only"),
    ("written", {"samples": 2}, "samples=2: 1, or a temperature above 0"),
    ("written", {"answer": "x+"}, "answer=x+: a pattern with a group in ( )"),
    ("written", {"answer": "("}, "answer=(: missing ), unterminated subpattern at position 0"),
    ("written", {"stop": [""]}, "stop=['']: no empty text"),
    ("written", {"max_tokens": 0}, "max_tokens=0: 1 or more"),
    ("text", {"items": 0}, "items=0: 1 or more"),
])  # fmt: skip
def test_settings_that_contradict_each_other_are_refused(kind, fields, message, task):
    with pytest.raises(ConfigError) as error:
        task(kind, **fields)
    assert str(error.value) == message


def test_a_task_needs_data(refused):
    assert refused("choice") == "data_dir is not set: a folder of rows"
