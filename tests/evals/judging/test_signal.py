import numpy as np
import pyarrow as pa
import pytest
from scipy import stats

from llmhpc.errors import ArtifactError
from llmhpc.evals.judging import signal
from llmhpc.evals.judging.signal import in_mean, signals

ARC = ("arc", "cloze")


def by_key(found):
    return {one.key: one for one in found}


@pytest.fixture(scope="module")
def found(simulate):
    """Three seeds of two data sets: one task learnt, one never learnt, one that each seed gets otherwise, a text."""

    def run(data, seed, quality):
        one = simulate(data, seed, quality=quality, tasks=(ARC, ("pages", "text")))
        still = simulate(data, seed, tasks=[("luck", "cloze")], growth=0.0, seed_noise=0.0)
        wild = simulate(data, seed, tasks=[("wild", "cloze")], seed_noise=0.8)
        scores = [*one.scores, *still.scores, *wild.scores]
        tables = [one.items, still.items, wild.items]
        return one._replace(scores=scores, items=pa.concat_tables(tables))

    return by_key(signals([run(d, s, q) for d, q in (("a", 0.0), ("b", 0.6)) for s in range(3)]))


def test_a_task_that_is_learnt_is_kept_and_one_that_never_changes_is_dropped(found):
    assert found[ARC].keep
    assert found[ARC].avg_spearman > 0.9
    assert not found["luck", "cloze"].keep
    assert "does not get better with training" in found["luck", "cloze"].reasons[0]


def test_a_task_on_which_seeds_differ_as_much_as_scores_is_dropped(found):
    wild = found["wild", "cloze"]
    assert wild.avg_snr < signal.SNR_LEAST < found[ARC].avg_snr
    assert any("seeds differ too much" in reason for reason in wild.reasons)


def test_less_is_better_for_a_text_and_it_has_no_chance_to_be_above(found):
    text = found["pages", "text"]
    assert text.keep
    assert text.avg_spearman > 0.9
    assert text.errors_above_chance is None
    assert text.max_n_std is None


def test_data_sets_that_differ_keep_their_order(found):
    assert found["pages", "text"].avg_kendall_tau_a == 1
    assert found["luck", "cloze"].avg_kendall_tau_a < 1


def test_every_interval_holds_its_measure(found):
    for one in found.values():
        for name in ("avg_spearman", "avg_snr", "max_n_std", "avg_kendall_tau_a"):
            if getattr(one, name) is not None:
                low, high = getattr(one, f"{name}_interval")
                assert low <= getattr(one, name) <= high
    assert found["luck", "cloze"].avg_spearman_interval[0] < signal.SPEARMAN_LEAST


def test_one_run_is_judged_by_what_it_can_show_and_says_what_it_cannot(simulate):
    one = by_key(signals([simulate("a", 0)]))[ARC]
    assert one.keep
    assert one.avg_snr is one.max_n_std is one.avg_kendall_tau_a is None
    assert "noise of seeds" in one.unknown[0]
    few = by_key(signals([simulate("a", 0, checkpoints=2)]))[ARC]
    assert few.avg_spearman is None
    assert few.keep


def test_a_task_at_chance_is_dropped(simulate):
    start = -0.9 - stats.norm.isf(0.25)  # a quarter is right at the end
    one = by_key(signals([simulate("a", 0, start=start - 0.6, growth=1.0)]))[ARC]
    assert one.errors_above_chance < 3
    assert any("not above chance" in reason for reason in one.reasons)


def test_of_two_forms_the_better_counts_and_texts_only_where_nothing_else_does(simulate):
    cloze = simulate("a", 0, tasks=(ARC, ("pages", "text")))
    letters = simulate("a", 0, tasks=[("arc", "letters")], start=0.0)
    both = cloze._replace(
        scores=[*cloze.scores, *letters.scores],
        items=pa.concat_tables([cloze.items, letters.items]),
    )
    assert in_mean(signals([both])) == [("arc", "letters")]
    assert in_mean(signals([simulate("a", 0, tasks=[("pages", "text")])])) == [("pages", "text")]


def test_rank_correlation_is_that_of_scipy():
    values = np.random.default_rng(0).normal(size=(4, 9))
    expected = [stats.spearmanr(range(9), row).statistic for row in values]
    assert signal.spearman(range(9), values) == pytest.approx(expected)
    assert signal.spearman(range(3), np.ones(3)) == 0


def test_ordering_is_kendalls_tau_a_of_consecutive_checkpoints():
    """Three data sets: at the first late checkpoint 1 2 3, then 1 3 2 (two of three pairs stay), then 1 3 2."""
    values = np.array([[9, 1, 1, 1], [0, 2, 3, 3], [5, 3, 2, 2]])
    data = np.array(["a", "b", "c"])
    tau = signal.ordering_consistency(values, [1, 2, 3, 4], data)
    assert tau == pytest.approx((1 / 3 + 1) / 2)


def test_noise_is_the_spread_of_seeds_of_one_data_set():
    values = np.array([[0.0, 0.0], [2.0, 4.0], [9.0, 9.0]])
    assert signal.seed_noise(values, np.array(["a", "a", "b"])) == pytest.approx(3 / np.sqrt(2))
    assert signal.seed_noise(values, np.array(["a", "b", "c"])) is None


def test_seeds_that_are_all_alike_have_no_noise_to_divide_by(simulate):
    one = simulate("a", 0, items=30)
    found = by_key(signals([one, one._replace(seed=1)]))[ARC]
    assert found.avg_std == 0
    assert found.avg_snr is found.avg_snr_interval is None
    assert found.keep


def test_trainings_without_a_checkpoint_at_the_same_tokens_are_not_judged(simulate):
    one = simulate("a", 0, items=30)
    moved = [line | {"tokens": line["tokens"] + 1} for line in one.scores]
    with pytest.raises(ArtifactError, match="arc/cloze: no checkpoint at the same tokens"):
        signals([one, one._replace(seed=1, scores=moved)])
