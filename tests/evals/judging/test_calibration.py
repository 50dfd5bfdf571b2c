import math

import numpy as np
import pyarrow as pa
import pytest

from llmhpc.evals.judging.calibration import BINS, calibration, questions
from llmhpc.evals.judging.forms import forms


def table(probabilities, gold, tokens=1000, task="arc"):
    """Letter questions with these probabilities; log-likelihoods are as far below 0 as a model's."""
    rows = [
        {
            "tokens": tokens, "task": task, "form": "letters", "document": f"d{n}", "gold": [right],
            "logprobs": [math.log(p) - 7 for p in row],
        }
        for n, (row, right) in enumerate(zip(probabilities, gold, strict=True))
    ]  # fmt: skip
    return pa.Table.from_pylist(rows)


def drawn(temperature, items=2000, seed=0):
    """A model whose true probabilities have this temperature: above 1 it says more than it knows."""
    draw = np.random.default_rng(seed)
    logits = draw.normal(0, 1.5, (items, 4))
    said, true = (np.exp(logits) / np.exp(logits).sum(1, keepdims=True) for logits in (logits, logits / temperature))  # fmt: skip
    return table(said, [draw.choice(4, p=row) for row in true])


def test_four_questions_by_hand():
    said = [
        [0.7, 0.1, 0.1, 0.1],
        [0.7, 0.1, 0.1, 0.1],
        [0.1, 0.9 - 1e-9, 0, 0],
        [0.4, 0.3, 0.2, 0.1],
    ]
    said[2][2] = said[2][3] = 5e-10
    found = calibration(table(said, [0, 1, 1, 0]))["arc"]
    # two of .7 with half right, one of .9 right, one of .4 right
    assert found["expected_calibration_error"] == pytest.approx((2 * 0.2 + 0.1 + 0.6) / 4, abs=1e-6)
    assert [one["items"] for one in found["bins"]] == [1, 2, 1]
    assert found["bins"][1]["confidence"] == pytest.approx(0.7)
    assert found["bins"][1]["accuracy"] == 0.5
    assert found["accuracy"] == 0.75
    prior = found["letters"]
    assert [one["right"] for one in prior] == [0.5, 0.5, 0, 0]
    assert [one["chosen"] for one in prior] == [0.75, 0.25, 0, 0]
    assert prior[0]["probability"] == pytest.approx((0.7 + 0.7 + 0.1 + 0.4) / 4, rel=1e-3)


def test_a_calibrated_model_is_within_what_chance_gives_and_a_boaster_is_not():
    honest, boaster = (calibration(drawn(t))["arc"] for t in (1.0, 2.5))
    low, high = honest["if_calibrated"]
    assert low <= honest["expected_calibration_error"] <= high
    assert boaster["interval"][0] > boaster["if_calibrated"][1]
    assert boaster["mean_confidence"] > boaster["accuracy"] + 0.1


def test_the_interval_holds_the_error_of_many_more_questions():
    truth = calibration(drawn(2.5, items=4000, seed=1))["arc"]["expected_calibration_error"]
    held = sum(
        low <= truth <= high
        for low, high in (
            calibration(drawn(2.5, items=400, seed=seed))["arc"]["interval"] for seed in range(15)
        )
    )
    assert held >= 13


def test_a_question_with_fewer_letters_does_not_count_where_it_has_none():
    found = calibration(table([[0.5, 0.5], [0.2, 0.2, 0.6]], [0, 2]))["arc"]
    assert found["letters"][2] == pytest.approx(
        {"letter": "C", "probability": 0.6, "chosen": 1.0, "right": 1.0}
    )
    asked = questions(table([[0.5, 0.5], [0.2, 0.2, 0.6]], [0, 2]))
    assert asked.probabilities.sum(1) == pytest.approx(1)


def test_full_confidence_is_in_the_last_bin():
    found = calibration(table([[1 - 1e-15, 1e-15]], [0]))["arc"]
    assert found["bins"][0]["high"] == pytest.approx(1)
    assert found["bins"][0]["low"] == pytest.approx((BINS - 1) / BINS)


def test_the_error_is_told_for_every_checkpoint_and_cloze_is_not_asked(simulate):
    one = simulate("a", 0, tasks=[("arc", "letters"), ("sci", "cloze")], items=40, checkpoints=3)
    found = calibration(one.items)
    assert list(found) == ["arc"]
    assert [point["tokens"] for point in found["arc"]["curve"]] == [1e6, 2e6, 3e6]
    last = found["arc"]["curve"][-1]["expected_calibration_error"]
    assert last == found["arc"]["expected_calibration_error"]


def both(simulate, **letters):
    cloze = simulate("a", 0, tasks=[("arc", "cloze")])
    other = simulate("a", 0, tasks=[("arc", "letters")], **letters)
    return cloze._replace(items=pa.concat_tables([cloze.items, other.items]))


def test_letters_overtake_cloze_at_the_tokens_where_they_do(simulate):
    late = forms(both(simulate, start=-2.0, growth=4.0))["arc"]
    assert late["points"][0]["better"] == "cloze"
    assert late["points"][-1]["better"] == "letters"
    for point in late["points"]:
        assert (point["letters"] >= point["cloze"]) == (point["tokens"] >= late["switch"])
    assert 1e6 < late["switch"] < 8e6


def test_forms_that_are_alike_do_not_switch(simulate):
    assert forms(both(simulate))["arc"]["switch"] is None
    assert forms(simulate("a", 0, tasks=[("arc", "cloze")], items=30)) == {}
