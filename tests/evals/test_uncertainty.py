import math
import random

import pytest

from llmhpc.evals.uncertainty import ratio_error


def test_with_one_item_in_each_document_the_error_is_the_binomial_one():
    parts = [(str(number), float(number % 3 == 0), 1.0) for number in range(60)]
    assert ratio_error(parts) == pytest.approx(math.sqrt(1 / 3 * 2 / 3 / 59))


def test_the_error_of_bits_per_byte_is_that_of_a_bootstrap_over_documents():
    rnd = random.Random(0)
    sizes = [rnd.randint(100, 1000) for _ in range(80)]
    documents = [(str(n), size * rnd.gauss(2, 0.3), size) for n, size in enumerate(sizes)]
    draws = []
    for _ in range(2000):
        sample = rnd.choices(documents, k=len(documents))
        draws.append(sum(y for _, y, _ in sample) / sum(x for _, _, x in sample))
    mean = sum(draws) / len(draws)
    spread = math.sqrt(sum((draw - mean) ** 2 for draw in draws) / len(draws))
    assert ratio_error(documents) == pytest.approx(spread, rel=0.06)


def test_repeating_the_items_of_a_document_does_not_make_the_error_smaller():
    once = [(str(number), float(number % 2), 1.0) for number in range(20)]
    assert ratio_error(once * 5) == pytest.approx(ratio_error(once))


def test_one_document_gives_no_error():
    assert math.isnan(ratio_error([("a", 1.0, 2.0), ("a", 0.0, 2.0)]))
