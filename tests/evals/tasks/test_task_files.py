"""Every file of conf/task asks what it should of a row in its data set's own columns and layout."""

import importlib
import re
from pathlib import Path

import pytest

from llmhpc.evals.items import Form, Item, Writing

TASKS = sorted(path.stem for path in (Path(__file__).parents[3] / "conf/task").glob("*.yaml"))
NO_SHOTS = {"gsm8k": {"shots": 0}, "triviaqa": {"shots": 0}}
ASKED = {
    "arc_easy": [
        Item(
            id="Mercury_7220990",
            prompt="Question: Which factor will most likely cause a person to develop a fever?\nAnswer:",
            choices=(" A leg muscle relaxing", " A bacterial population in the bloodstream"),
            gold=(1,),
            alone="Answer:",
        ),
        Item(
            id="Mercury_7220990",
            prompt="Question: Which factor will most likely cause a person to develop a fever?\n"
            " A. A leg muscle relaxing\n B. A bacterial population in the bloodstream\nAnswer:",
            choices=(" A", " B"),
            gold=(1,),
        ),
    ],
    "hellaswag": [
        Item(
            id="validation:1",
            prompt="Roof shingle removal:\nA man is sitting on a roof high up. He",
            choices=(
                " is using wrap.",
                " is ripping level tiles off.",
                " rides a bike.",
                " stands. up.",
            ),
            gold=(1,),
            alone="",
            document="activitynet~v_-JhWjGDPHMY",
        ),
        Item(
            id="validation:1",
            prompt="Roof shingle removal:\nA man is sitting on a roof high up. He\n A. is using wrap.\n"
            " B. is ripping level tiles off.\n C. rides a bike.\n D. stands. up.\nAnswer:",
            choices=(" A", " B", " C", " D"),
            gold=(1,),
            document="activitynet~v_-JhWjGDPHMY",
        ),
    ],
    "piqa": [
        Item(
            id="validation:1",
            prompt="Question: How do I ready a guinea pig cage for it's new occupants?\nAnswer:",
            choices=(" Give it a few inches of bedding.", " Give it a few inches of jeans."),
            gold=(0,),
            alone="Answer:",
        )
    ],
    "winogrande": [
        Item(
            id="validation:1",
            choices=(" always got the easier cases.",) * 2,
            leads=(
                "Sarah was a much better surgeon than Maria so Sarah",
                "Sarah was a much better surgeon than Maria so Maria",
            ),
            gold=(1,),
            alone="",
        )
    ],
    "siqa": [
        Item(
            id="validation:1",
            prompt="Question: Tracy didn't go home that evening. What does Tracy need to do before this?\nAnswer:",
            choices=(" Make a new plan", " Go home", " Find somewhere to go"),
            gold=(2,),
            alone="Answer:",
            document="Tracy didn't go home that evening.",
        )
    ],
    "mmlu": [
        Item(
            id="test:1",
            prompt="The following are multiple choice questions (with answers) about abstract algebra.\n\n"
            "Question: Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.\nAnswer:",
            choices=(" 0", " 1", " 2", " 3"),
            gold=(1,),
            alone="Answer:",
            domain="abstract_algebra",
        )
    ],
    "lambada": [
        Item(
            id="test:1",
            prompt="He shook my hand and\n\n\u201cwelcome,\u201d he said, and pointed at the tall glass of",
            choices=(" juice",),
        )
    ],
    "gsm8k": [
        Item(
            id="test:1",
            prompt="Question: Janet sold 1,000 eggs on two days. How many on each?\nAnswer:",
            choices=("1000",),
        )
    ],
    "triviaqa": [
        Item(
            id="tc_2",
            prompt="Question: Who was the man behind The Chipmunks?\nAnswer:",
            choices=("David Seville", "david seville"),
        )
    ],
}


@pytest.mark.parametrize("name", TASKS)
def test_every_task_reads_its_data_set_as_the_hub_has_it(name, ask, copied):
    for asked in ask(name, data_dir=copied(name), **NO_SHOTS.get(name, {})):
        assert len(asked.items) == 1
        assert not set(asked.items[0].gold) - set(range(len(asked.items[0].choices)))


@pytest.mark.parametrize("name", ASKED)
def test_a_task_asks_exactly_this(name, ask, copied):
    asked = ask(name, data_dir=copied(name), **NO_SHOTS.get(name, {}))
    assert [one.items[0] for one in asked][: len(ASKED[name])] == ASKED[name]


def test_a_number_is_the_last_one_behind_four_hashes(ask, copied, row):
    [asked] = ask("gsm8k", data_dir=copied("gsm8k"), shots=0)
    assert asked.form is Form.written
    assert asked.writing == Writing(
        max_tokens=256, stop=("Question:",), answer="#### (-?[0-9][0-9.,]*)"
    )
    assert re.findall(asked.writing.answer, row("gsm8k")["answer"]) == ["1,000"]


PLAIN = {"template": "plain", "forms": ["cloze"], "instruction": "", "context": "", "opening": ""}
BUILT_IN = {  # task -> lighteval's module and function, and what makes our prompts as bare as its own
    "arc_easy": ("arc.arc_prompt", {
        **PLAIN,
        "question": "Question: {{ question }}\nAnswer:",
        "choices": "[' ' ~ choices.text[0], ' ' ~ choices.text[1]]",
    }),
    "mmlu": ("mmlu.mmlu_prompt", {
        **PLAIN,
        "forms": ["letters"],
        "question": "The following are multiple choice questions (with answers) about "
        "{{ subject | replace('_', ' ') }}.\n\nQuestion: {{ question }}"
        "{% for c in choices %}\n{{ 'ABCD'[loop.index0] }}. {{ c }}{% endfor %}\nAnswer:",
        "choices": "[' A', ' B', ' C', ' D']",
    }),
    "winogrande": ("winogrande.winogrande_prompt", {
        "leads": "",
        "question": "{{ sentence.split('_')[0] }}",
        "choices": "[option1 ~ sentence.split('_')[1], option2 ~ sentence.split('_')[1]]",
    }),
    "lambada": ("lambada.lambada_prompt", {}),
    "gsm8k": ("gsm8k.gsm8k_prompt", {"shots": 0, "answers": "[' ' ~ answer]"}),
}  # fmt: skip


@pytest.mark.slow  # lighteval's own tasks import inspect_ai
@pytest.mark.parametrize("name", BUILT_IN)
def test_a_template_can_ask_what_lighteval_s_own_task_asks(name, ask, copied, row):
    place, fields = BUILT_IN[name]
    module, _, function = place.partition(".")
    built_in = getattr(importlib.import_module(f"lighteval.tasks.tasks.{module}"), function)
    doc = built_in(row(name), name)
    [asked] = ask(name, data_dir=copied(name), **fields)
    [item] = asked.items
    assert item.prompt == doc.query
    assert list(item.choices) == doc.choices
    assert item.gold == (doc.gold_index,)
