import math
import random

import numpy as np
import pytest
from scipy import stats

from llmhpc.evals.judging import paired, power, signal
from llmhpc.evals.judging.uncertainty import Part, ratio_error
from llmhpc.evals.judging.verdict import NOT_DECIDED, verdicts

ARC, SCIENCE, PAGES = ("arc", "cloze"), ("science", "cloze"), ("pages", "text")
TASKS = (ARC, SCIENCE, PAGES)


def judged(simulate, qualities, seeds=3, against="", **settings):
    runs = [
        simulate(data, seed, quality=quality, tasks=TASKS, **settings)
        for data, quality in qualities.items()
        for seed in range(seeds)
    ]
    return verdicts(runs, signal.in_mean(signal.signals(runs)), against)


def test_a_large_difference_is_decided_for_the_better_side_whichever_is_named_first(simulate):
    (found,) = judged(simulate, {"raw": 0.0, "refined": 1.0}, against="raw")
    assert found["mean"]["verdict"] == "refined is better"
    assert found["sentence"].startswith("refined is better: refined less raw is +0.")
    (found,) = judged(simulate, {"raw": 0.0, "refined": 1.0}, against="refined")
    assert found["mean"]["verdict"] == "refined is better"
    assert found["mean"]["points"][-1]["high"] < 0


def test_the_same_data_twice_is_not_decided(simulate):
    (found,) = judged(simulate, {"a": 0.0, "b": 0.0})
    assert found["mean"]["verdict"] == NOT_DECIDED
    last = found["mean"]["points"][-1]
    assert last["low"] < 0 < last["high"]


def test_fewer_bits_are_better_and_texts_stand_beside_the_mean(simulate):
    (found,) = judged(simulate, {"raw": 0.0, "refined": 1.0}, against="raw")
    text = next(task for task in found["tasks"] if task["name"] == "pages/text")
    assert text["verdict"] == "refined is better"
    assert text["points"][-1]["a"] < text["points"][-1]["b"]
    assert text["points"][-1]["gain"] > 0
    assert not text["in_mean"]
    assert found["in_mean"] == ["arc/cloze", "science/cloze"]


def test_the_mean_is_that_of_rescaled_scores(simulate):
    (found,) = judged(simulate, {"raw": 0.0, "refined": 1.0}, against="raw")
    tasks = [task for task in found["tasks"] if task["in_mean"]]
    for n, point in enumerate(found["mean"]["points"]):
        gains = [task["points"][n]["gain"] / 0.75 for task in tasks]
        assert point["gain"] == pytest.approx(sum(gains) / 2)
        assert point["a"] - point["b"] == pytest.approx(point["gain"])
        scores = [(task["points"][n]["a"] - 0.25) / 0.75 for task in tasks]
        assert point["a"] == pytest.approx(sum(scores) / 2)


def test_one_training_of_each_decides_nothing_and_says_why(simulate):
    (found,) = judged(simulate, {"raw": 0.0, "refined": 2.0}, seeds=1)
    assert found["mean"]["verdict"] == NOT_DECIDED
    assert "two or more of each" in found["sentence"]


def test_every_other_data_set_is_compared_with_the_named_one(simulate):
    found = judged(simulate, {"a": 0.0, "b": 0.0, "c": 0.0}, seeds=2, against="b", items=40)
    assert [(pair["a"], pair["b"]) for pair in found] == [("a", "b"), ("c", "b")]


def test_a_task_with_other_items_is_left_out_by_name(simulate):
    runs = [simulate(data, seed, tasks=TASKS, items=60) for data in "ab" for seed in (0, 1)]
    table = runs[0].items
    seen = zip(table["task"].to_pylist(), table["hash"].to_pylist(), strict=True)
    other = [f"else-{name}" if task == "science" else name for task, name in seen]
    place = table.column_names.index("hash")
    runs[0] = runs[0]._replace(items=table.set_column(place, "hash", [other]))
    (found,) = verdicts(runs, [ARC, SCIENCE])
    assert "the same items" in found["left_out"]["science/cloze"]
    assert found["in_mean"] == ["arc/cloze"]


def crossed(draw, seeds, documents, of_seed, of_item, of_both, theta=0.3):
    """Right or wrong (seeds, items): two items in each document, as probits of seed, item and both together."""
    item = np.repeat(draw.normal(0, of_item, documents), 2)
    noise = draw.normal(size=(seeds, 2 * documents))
    seed = draw.normal(0, of_seed, (seeds, 1))
    return (theta + seed + item + of_both * noise > 0).astype(float)


@pytest.mark.parametrize("seeds", [2, 3, 5])
@pytest.mark.parametrize(
    "noise",
    [(0.3, 0.1, 1.0), (0.02, 1.0, 0.3), (0.1, 0.5, 1.0)],
    ids=["seeds", "items", "both"],
)
def test_the_interval_holds_the_true_difference_in_95_of_100_cases_or_more(seeds, noise):
    """Whether seeds, items or neither make most of the error: drawn 500 times, true difference by the normal law."""
    draw = np.random.default_rng(seeds)
    spread = math.sqrt(sum(part**2 for part in noise))
    truth = stats.norm.cdf(0.5 / spread) - stats.norm.cdf(0.3 / spread)
    document, ones = np.repeat(np.arange(80), 2), np.ones((seeds, 160))
    held, times = 0, 500
    for _ in range(times):
        a, b = (crossed(draw, seeds, 80, *noise, theta=theta) for theta in (0.5, 0.3))
        found = paired.difference((a, ones), (b, ones), document, np.arange(160))
        held += abs(found.value - truth) <= found.reach
    assert 0.93 <= held / times <= 1


def test_two_items_of_a_document_that_go_together_count_as_one():
    draw = np.random.default_rng(0)
    a, b = (draw.integers(0, 2, (3, 50)).astype(float) for _ in range(2))
    ones = np.ones((3, 50))
    once = paired.difference((a, ones), (b, ones), np.arange(50), np.arange(50))
    twice = [np.repeat(part, 2, axis=1) for part in (a, b, ones)]
    names = np.repeat(np.arange(50), 2)
    double = paired.difference((twice[0], twice[2]), (twice[1], twice[2]), names, np.arange(100))
    assert double.variance == pytest.approx(once.variance)
    assert double.reach == pytest.approx(once.reach)


def test_against_nothing_with_one_seed_the_error_is_that_of_the_score():
    draw = random.Random(0)
    parts = [
        Part(str(n // 3), str(n % 40), draw.gauss(1, 1), draw.uniform(1, 9)) for n in range(90)
    ]
    y, x = (np.array([[getattr(part, name) for part in parts]]) for name in ("y", "x"))
    names = [np.array([getattr(part, name) for part in parts]) for name in ("document", "group")]
    found = paired.difference((y, x), (0 * y, x), *names)
    assert found.error == pytest.approx(ratio_error(parts))


def test_the_mean_of_one_difference_is_the_difference():
    draw = np.random.default_rng(0)
    a, b, ones = draw.random((3, 30)), draw.random((3, 30)), np.ones((3, 30))
    one = paired.difference((a, ones), (b, ones), np.arange(30), np.arange(30))
    same = paired.mean([one], [1.0])
    assert (same.value, same.variance, same.reach) == pytest.approx(
        (one.value, one.variance, one.reach)
    )


def seen(value, of_seed, items=0.0, both=0.0, seeds=3):
    """A difference whose seeds have this standard deviation."""
    spread = np.linspace(-1, 1, seeds)
    by_seed = value + of_seed * spread / spread.std(ddof=1)
    return paired.Difference(by_seed=tuple(by_seed.tolist()), items=items, both=both, freedom=100.0)


def test_so_many_seeds_as_are_said_decide_in_four_of_five_cases():
    count = power.needed(seen(0.1, 0.1), 100, [], []).seeds
    draw = np.random.default_rng(0)
    trials = draw.normal(0.1, 0.1, (4000, count))
    t = trials.mean(1) / (trials.std(1, ddof=1) / math.sqrt(count))
    decided = (t > stats.t.ppf(0.975, count - 1)).mean()
    assert 0.78 <= decided <= 0.9
    fewer = power.needed(seen(0.1, 0.05), 100, [], []).seeds
    assert 2 <= fewer < count


def test_where_items_are_the_limit_their_number_is_said_with_that_of_seeds():
    found = power.needed(seen(0.1, 0.001, items=0.01), 100, [], [])
    assert "no number of seeds" in found.reason
    most = stats.t.ppf(0.975, 100) + stats.t.ppf(0.8, 100)
    assert found.items == pytest.approx(100 * 0.01 * most**2 / (0.1**2 / 2), rel=0.01)
    assert found.seeds == 2
    assert power.needed(seen(0.1, 0.1, items=0.01), 100, [], []).seeds > 10


def test_a_difference_of_as_good_as_nothing_has_no_number_of_items():
    assert power.needed(seen(1e-17, 0.1, items=0.01), 100, [], [])[:2] == (None, None)


def test_so_many_items_and_seeds_as_are_said_decide_in_four_of_five_cases():
    """The difference is 0.1, one of a seed varies by 0.1 and one of an item by 1."""
    told = power.needed(seen(0.1, 0.1, items=1 / 100), 100, [], [])
    draw, ones = np.random.default_rng(0), np.ones((told.seeds, told.items))
    names, decided = np.arange(told.items), 0
    for _ in range(200):
        y = 0.1 + draw.normal(0, 0.1, (told.seeds, 1)) + draw.normal(0, 1, told.items)
        decided += paired.difference((y, ones), (0 * ones, ones), names, names).sign == 1
    assert 0.75 <= decided / 200 <= 0.97


def test_tokens_are_told_where_the_difference_outgrows_its_error_and_only_there():
    tokens = [2**n * 1000 for n in range(6)]
    rises, falls = [0.2 * n for n in range(6)], [1 - 0.2 * n for n in range(6)]
    found = seen(0.1, 0.05, seeds=30)
    goal = (stats.norm.ppf(0.975) + stats.norm.ppf(0.8)) / stats.norm.ppf(0.975)
    told = power.needed(found, 100, tokens, rises).tokens
    assert told == pytest.approx(1000 * 2 ** (goal / 0.2), rel=0.01)
    assert power.needed(found, 100, tokens, falls).tokens is None
    assert power.needed(found, 100, tokens[:2], rises[:2]).tokens is None
    against = seen(-0.1, 0.05, seeds=30)
    assert power.needed(against, 100, tokens, [-z for z in rises]).tokens == told
