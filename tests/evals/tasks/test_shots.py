"""Solved examples before a question."""

import pytest

from llmhpc.errors import ConfigError


def question(number: int, **more: object) -> dict:
    return {
        "id": f"q{number}",
        "question": f"how many are {number} and one?",
        "choices": [f"{number + i} stones" for i in range(4)],
        "gold": number % 4,
        **more,
    }


@pytest.fixture
def quiz(folder):
    folder([question(n) for n in range(20)])
    return folder([question(n) for n in range(100, 140)], "train.jsonl")


def examples(item) -> list[str]:
    return item.prompt.split("\n\n")[:-1]


def test_examples_are_solved_questions_of_the_few_shot_split(ask, quiz):
    cloze, letters = ask("choice", data_dir=quiz, shots=2)
    item = next(item for item in cloze.items if item.id == "q3")
    first, second, own = item.prompt.split("\n\n")
    assert own == "Question: How many are 3 and one?\nAnswer:"
    number = int(first.split()[4])
    assert number >= 100
    assert first == (
        f"Question: How many are {number} and one?\nAnswer: {number + number % 4} stones"
    )
    same = next(item for item in letters.items if item.id == "q3")
    assert same.prompt.startswith(
        f"Question: How many are {number} and one?\n A. {number} stones\n B. {number + 1} stones\n"
        f" C. {number + 2} stones\n D. {number + 3} stones\nAnswer: {'ABCD'[number % 4]}\n\nQuestion: "
    )
    assert second.split()[4] != first.split()[4]
    assert {tuple(examples(item)) for item in cloze.items} == {(first, second)}


def test_another_seed_shows_other_examples_and_the_same_one_the_same(ask, quiz):
    shown = [
        examples(ask("choice", data_dir=quiz, shots=3, shots_seed=seed)[0].items[0])
        for seed in (0, 1, 2, 2)
    ]
    assert shown[2] == shown[3]
    assert len({tuple(one) for one in shown}) == 3


def test_a_prompt_is_what_lighteval_s_prompt_manager_makes_of_the_same_documents(ask, quiz):
    from lighteval.tasks.prompt_manager import PromptManager
    from lighteval.tasks.templates.multichoice import get_mcq_prompt_function
    from lighteval.tasks.templates.utils.formulation import CFFormulation
    from lighteval.utils.language import Language

    adapter = {name: name for name in ("question", "choices", "instruction")} | {"gold_idx": "gold"}
    doc_of = get_mcq_prompt_function(Language.ENGLISH, adapter, CFFormulation())
    cloze, _ = ask("choice", data_dir=quiz, shots=3, instruction="Count.")
    for item in cloze.items:
        shown = [int(one.split()[4]) for one in examples(item)[1:]]
        docs = [
            doc_of(question(n) | {"instruction": "Count."}, "") for n in (int(item.id[1:]), *shown)
        ]
        docs[0].fewshot_samples = docs[1:]
        assert item.prompt == PromptManager().prepare_prompt(docs[0])


def test_no_item_is_an_example_of_itself(ask, folder):
    quiz = folder([question(n) for n in range(4)])
    cloze, letters = ask("choice", data_dir=quiz, shots=3, few_shot_split="test")
    for item in (*cloze.items, *letters.items):
        own = item.prompt.split("\n\n")[-1]
        assert len(examples(item)) == 3
        assert not any(example.startswith(own) for example in examples(item))


def test_examples_are_of_the_item_s_own_domain(ask, folder):
    data = folder([question(n, domain="even" if n % 2 == 0 else "odd") for n in range(20)])
    folder(
        [question(n, domain="even" if n % 2 == 0 else "odd") for n in range(50, 60)], "dev.jsonl"
    )
    cloze, _ = ask("choice", data_dir=data, shots=5, few_shot_split="dev")
    for item in cloze.items:
        own = int(item.id[1:]) % 2
        assert [int(example.split()[4]) % 2 for example in examples(item)] == [own] * 5
    with pytest.raises(ConfigError, match=r"shots=6: few_shot_split=dev has 5 .* of domain \w+, 6"):
        ask("choice", data_dir=data, shots=6, few_shot_split="dev")


def test_rows_without_a_domain_are_examples_for_all(ask, folder, quiz):
    folder([question(n, domain="d") for n in range(4)])
    assert len(examples(ask("choice", data_dir=quiz, shots=4)[0].items[0])) == 4


def test_a_question_that_is_there_twice_is_no_two_examples(ask, folder, quiz):
    folder([{**question(n % 2), "id": n} for n in range(100, 140)], "train.jsonl")
    with pytest.raises(ConfigError, match="has 2 different rows, 3 or more needed"):
        ask("choice", data_dir=quiz, shots=3)


def test_an_example_shows_its_answer_with_the_white_space_that_a_choice_has(ask, folder):
    rows = [{"question": f"{n}+1=", "choices": [f"{n}", f"{n + 1}"], "gold": 1} for n in range(9)]
    fields = {"template": "plain", "forms": ["cloze"], "few_shot_split": "test", "shots": 1}
    [asked] = ask("choice", data_dir=folder(rows), **fields)
    for item in asked.items:
        shown, own = item.prompt.split("\n\n")
        left, right = shown.split("+1=")
        assert int(right) == int(left) + 1
        assert item.choices[1] == str(int(own.removesuffix("+1=")) + 1)


def test_an_example_of_two_leads_is_the_sentence_with_the_right_one(ask, folder, row):
    [asked] = ask(
        "winogrande",
        data_dir=folder(
            [row("winogrande"), row("winogrande") | {"answer": "1"}], "validation.jsonl"
        ),
        shots=1,
        few_shot_split="validation",
    )
    first = next(item for item in asked.items if item.gold == (1,))
    assert first.before(0) == (
        "Sarah was a much better surgeon than Maria so Sarah always got the easier cases.\n\n"
        "Sarah was a much better surgeon than Maria so Sarah"
    )


def test_a_written_example_shows_its_solution(ask, folder, row):
    rows = [
        row("gsm8k") | {"question": f"{n}?", "answer": f"It is {n}.\n#### {n}"} for n in (1, 2, 3)
    ]
    data = folder(rows)
    folder(rows[:2], "train.jsonl")
    [asked] = ask("gsm8k", data_dir=data, shots=1)
    item = next(item for item in asked.items if item.choices == ("3",))
    n = examples(item)[0].split()[1].removesuffix("?")
    assert item.prompt == (f"Question: {n}?\nAnswer: It is {n}.\n#### {n}\n\nQuestion: 3?\nAnswer:")


@pytest.mark.parametrize("shots", [-1, 3])
def test_a_number_of_examples_that_cannot_be_is_refused(shots, ask, folder):
    data = folder([question(n) for n in range(3)])
    with pytest.raises(ConfigError, match=f"shots={shots}: .* or more"):
        ask("choice", data_dir=data, shots=shots, few_shot_split="test")
