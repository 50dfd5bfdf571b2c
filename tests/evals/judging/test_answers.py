import pytest

from llmhpc.evals.models import engine

SOLUTION = r"#### (-?[0-9][0-9.,]*)"


@pytest.fixture(scope="module")
def answers():
    engine.prepare()
    from llmhpc.evals.judging import answers

    return answers


@pytest.mark.parametrize(
    ("text", "pattern", "answer"),
    [
        ("7 or 8\n#### 7\nno,\n#### 1,080.", SOLUTION, "1,080."),
        ("about 7", SOLUTION, ""),
        (" all of it \n", "", "all of it"),
        ("Answer: Paris.\nAnswer: Rome.", r"Answer:\s*(.*?)\.", "Rome"),
        ("nothing", "(x)?nothing", ""),
    ],
)
def test_the_answer_is_the_first_group_of_the_last_match(answers, text, pattern, answer):
    assert answers.found(text, pattern) == answer


@pytest.mark.parametrize(
    ("text", "accepted", "verdict"),
    [
        ("She has 5 * 216.\n#### 1,080", "1080", True),
        ("#### 1080.", "1080", True),
        ("#### 1080", "She sold 2 and then 3.\n#### 1,080", True),
        ("#### 108", "1080", False),
        ("#### -1080", "1080", False),
        ("#### 10.80", "1080", False),
        ("It is 1080", "1080", False),
        ("#### 3", "#### 1,080 is 3 more than\n#### 1,077", False),
        ("", "1080", False),
    ],
)
def test_numbers_are_compared_as_gsm8k_s(answers, text, accepted, verdict):
    assert answers.right(text, [accepted], SOLUTION) is verdict


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (" the Beatles", True),
        ("Beatles!", True),
        ("THE FAB FOUR.", True),
        ("The Beatles and others", False),
        ("", False),
        ("the", False),
    ],
)
def test_names_may_be_any_alias_in_any_case_without_article_and_punctuation(answers, text, verdict):
    assert answers.right(text, ["The Beatles", "Fab Four"]) is verdict


def test_an_answer_that_is_only_an_article_is_compared_as_it_stands(answers):
    assert answers.right("A", ["A"])
    assert not answers.right("The", ["A"])
    assert not answers.right("B", ["A"])


def test_a_number_among_aliases_is_compared_as_a_number(answers):
    aliases = ["eighteen", "1,800"]
    assert [answers.right(text, aliases) for text in ("1800", "Eighteen!", "-1800", "18.00")] == [
        True,
        True,
        False,
        False,
    ]
    assert not answers.right("1800 or 1900", aliases)


def test_of_several_texts_the_share_that_is_right_counts(answers):
    from lighteval.models.model_output import ModelResponse
    from lighteval.tasks.requests import Doc

    doc = Doc(query="2 + 2?", choices=["five", "4"], gold_index=0)
    written = ModelResponse(text=["#### 4", "#### 5", "four", "#### 4.0"])
    assert answers.RightAnswers(SOLUTION).compute(doc, written) == 0.25
