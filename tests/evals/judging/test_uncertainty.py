import math
import random

import pytest

from llmhpc.evals.judging.uncertainty import Part, ratio_error


def test_with_one_item_in_each_document_the_error_is_the_binomial_one():
    parts = [Part(str(number), str(number), float(number % 3 == 0), 1.0) for number in range(60)]
    assert ratio_error(parts) == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 59))


def test_the_error_of_bits_per_byte_is_that_of_a_bootstrap_over_documents():
    rnd = random.Random(0)
    sizes = [rnd.randint(100, 1000) for _ in range(80)]
    documents = [
        Part(str(n), str(n), size * rnd.gauss(2, 0.3), size) for n, size in enumerate(sizes)
    ]
    draws = []
    for _ in range(2000):
        sample = rnd.choices(documents, k=len(documents))
        draws.append(sum(part.y for part in sample) / sum(part.x for part in sample))
    mean = sum(draws) / len(draws)
    spread = math.sqrt(sum((draw - mean) ** 2 for draw in draws) / len(draws))
    assert ratio_error(documents) == pytest.approx(spread, rel=0.06)


def test_repeating_the_items_of_a_document_does_not_make_the_error_smaller():
    once = [Part(str(number), str(number), float(number % 2), 1.0) for number in range(20)]
    assert ratio_error(once * 5) == pytest.approx(ratio_error(once))


def test_one_document_gives_no_error():
    assert math.isnan(ratio_error([Part("a", "a", 1.0, 2.0), Part("a", "b", 0.0, 2.0)]))


def test_groups_in_which_one_of_four_is_always_right_make_the_error_smaller():
    """Drawn 400 times: a judge without context is right in one of each four, and that varies by document alone."""
    rnd = random.Random(0)
    means, errors = [], []
    for _ in range(400):
        parts = []
        for group in range(60):
            documents = rnd.sample(range(200), 4)
            winner = rnd.choice(documents) if rnd.random() < 0.9 else None
            parts += [Part(str(d), str(group), float(d == winner), 1.0) for d in documents]
        means.append(sum(part.y for part in parts) / len(parts))
        errors.append(ratio_error(parts))
    mean = sum(means) / len(means)
    spread = math.sqrt(sum((value - mean) ** 2 for value in means) / len(means))
    assert sum(errors) / len(errors) == pytest.approx(spread, rel=0.25)
    binomial = math.sqrt(mean * (1 - mean) / len(parts))
    assert spread < 0.5 * binomial
