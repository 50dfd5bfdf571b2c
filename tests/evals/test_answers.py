import pytest

from llmhpc.evals import engine
from llmhpc.evals.answers import found, right, share_right

SOLUTION = r"#### (-?[0-9][0-9.,]*)"


@pytest.fixture(scope="module", autouse=True)
def lighteval(tmp_path_factory):
    engine.prepare(tmp_path_factory.mktemp("cache"))


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
def test_the_answer_is_the_first_group_of_the_last_match(text, pattern, answer):
    assert found(text, pattern) == answer


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
def test_numbers_are_compared_as_gsm8k_s(text, accepted, verdict):
    assert right(text, [accepted], SOLUTION) is verdict


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
def test_names_may_be_any_alias_in_any_case_without_article_and_punctuation(text, verdict):
    assert right(text, ["The Beatles", "Fab Four"]) is verdict


def test_an_answer_that_is_only_an_article_is_compared_as_it_stands():
    assert right("A", ["A"])
    assert not right("The", ["A"])
    assert not right("B", ["A"])


def test_of_several_samples_the_share_that_is_right_counts():
    assert share_right(["#### 4", "#### 5", "four", "#### 4.0"], ["4"], SOLUTION) == 0.25
