import random

import pytest

from llmhpc.errors import StageError
from llmhpc.evals.material.heldout import Document
from llmhpc.evals.material.surprise import Surprise
from llmhpc.evals.tasks.continuation import Config, make_items

SENTENCES = [
    f"Sentence {number} of page {{page}} is about {word}{number * 7}."
    for number, word in enumerate(["bread", "rivers", "engines", "violins", "wool"] * 6)
]
PAGES = [
    Document(f"page-{page}", " ".join(SENTENCES[page % 5 :]).format(page=page * 1013))
    for page in range(12)
]


def items(documents=PAGES, count=40, least=4):
    cfg = Config(items=count, items_min=least, context_bytes=100, continuation_bytes=30)
    return make_items(cfg, documents)


def test_every_item_asks_for_the_text_that_truly_follows():
    texts = {page.id: page.text for page in PAGES}
    for item in items():
        follows = item.prompt + item.choices[item.gold[0]]
        assert follows in texts[item.document]
        assert item.id.startswith(f"{item.document}#")


def test_wrong_choices_differ_from_the_right_one_and_are_not_in_its_document():
    texts = {page.id: page.text for page in PAGES}
    for item in items():
        wrong = [choice for n, choice in enumerate(item.choices) if n != item.gold[0]]
        assert len(set(item.choices)) == 4
        assert not any(choice.strip() in texts[item.document] for choice in wrong)


def test_choices_are_alike_in_length_and_in_the_whitespace_before_them():
    for item in items():
        sizes = [len(choice) for choice in item.choices]
        assert 30 <= min(sizes) and max(sizes) <= 61
        assert len({choice[: len(choice) - len(choice.lstrip())] for choice in item.choices}) == 1


def test_the_right_answer_stands_equally_often_at_each_place():
    golds = [item.gold[0] for item in items()]
    assert len(golds) == 40
    assert {golds.count(place) for place in range(4)} == {10}


def test_a_judge_who_does_not_see_the_context_is_right_in_one_of_four():
    for taste in (len, hash, lambda choice: choice.count("e"), lambda choice: choice.strip()):
        right = [taste_of(item, taste) == item.gold[0] for item in items()]
        assert sum(right) == len(right) / 4


def taste_of(item, taste):
    return max(range(4), key=lambda place: (taste(item.choices[place].strip()), place))


def test_the_choices_of_an_item_are_about_equally_hard_to_predict():
    rng = random.Random(0)
    noise = [
        "".join(rng.choices("bcdfghjklmnpqrstvwxz   ", k=40)).capitalize() + "." for _ in range(360)
    ]
    hard = [Document(f"noise-{n}", " ".join(noise[n * 30 : n * 30 + 30])) for n in range(12)]
    mixed = items(PAGES + hard, count=60)
    of_noise = [sum(choice.strip() in "".join(noise) for choice in i.choices) for i in mixed]
    assert {number in (0, 4) for number in of_noise} == {True}
    assert {0, 4} <= set(of_noise)


def test_a_text_like_the_other_documents_is_less_of_a_surprise():
    surprise = Surprise(PAGES)
    usual, unusual = "is about bread. Sentence", "zq xkvj wpf!! Ggh qq yy"
    assert surprise("page-0", usual) < 0.5 * surprise("page-0", unusual)


def test_the_order_of_the_documents_changes_nothing():
    assert items(PAGES[::-1]) == items()


def test_documents_take_turns():
    asked = [item.document for item in items()]
    assert {asked.count(page.id) for page in PAGES} <= {2, 3, 4, 5}


def test_no_window_is_used_twice():
    ids = [item.id for item in items(count=1000)]
    assert len(ids) == len(set(ids)) > 40


def test_too_few_documents_are_refused_with_the_number_of_items_possible():
    with pytest.raises(StageError, match="continuation: 0 items possible from 3 .* 4 needed"):
        items(PAGES[:3])
    with pytest.raises(StageError, match=r"\d+ items possible from 12 .* 900 needed"):
        items(count=1000, least=900)
