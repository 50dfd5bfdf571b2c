"""Settings of training: wrong ones are one line each, right ones mean what they say."""

from dataclasses import replace

import pytest

from llmhpc.config import Resources
from llmhpc.errors import ConfigError
from llmhpc.jobs.tokenize import Config as TokenizeStage
from llmhpc.jobs.tokenizer import Config as TokenizerStage
from llmhpc.jobs.train import Config
from llmhpc.models.llama import Config as Llama
from llmhpc.train.settings import Decay, Parallel, Schedule, TensorMode


def stage(**fields):
    return Config(**{"model": Llama(), "parallel": Parallel(), "schedule": Schedule()} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"parallel": Parallel(tp=3)}, "parallel.tp=3: a divisor of model.heads=4"),
        ({"parallel": Parallel(dp=3)}, "schedule.global_batch=16: a multiple of parallel.dp=3 x"),
        (
            {"parallel": Parallel(pp=4, micro_batch=16)},
            "parallel.pp=4: with 1 micro-batches per step at most 2",
        ),
        (
            {"parallel": Parallel(dp=2), "resources": Resources(nodes=3)},
            "resources.nodes=3: a divisor of dp x cp x tp x pp = 2 x 1 x 1 x 1 = 2 processes",
        ),
        (
            {"parallel": Parallel(dp=4), "resources": Resources(gpus_per_node=2)},
            "resources.gpus_per_node=2: 4, one for each process of a node",
        ),
        (
            {
                "parallel": Parallel(tp=2, tp_mode=TensorMode.REDUCE_SCATTER),
                "schedule": Schedule(sequence_length=33),
            },
            "schedule.sequence_length=33: a multiple of parallel.tp=2",
        ),
        (
            {"parallel": Parallel(cp=2), "schedule": Schedule(sequence_length=34)},
            "schedule.sequence_length=34: a multiple of 2 x parallel.cp=2",
        ),
        (
            {
                "parallel": Parallel(cp=2, tp=2, tp_mode=TensorMode.REDUCE_SCATTER),
                "schedule": Schedule(sequence_length=36),
            },
            "schedule.sequence_length=36: a multiple of 2 x parallel.cp=2 x parallel.tp=2",
        ),
        ({"ranks": 2}, "ranks=2: 1, the processes of training are in parallel"),
        ({"checkpoint_every": 0}, "checkpoint_every=0: 1 or more"),
        ({"model": "???"}, "model is not set"),
    ],
)
def test_a_layout_that_does_not_fit_is_one_clear_line(fields, message):
    with pytest.raises(ConfigError) as caught:
        stage(**fields)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"steps": 0}, "steps=0: 1 or more"),
        ({"min_lr": 1.0}, "min_lr=1.0: at most lr=0.003"),
        ({"warmup_steps": 300}, "warmup_steps=300: with decay_steps=0 at most steps=200"),
        ({"decay": Decay.wsd}, "decay_steps=0: 1 or more with decay=wsd"),
        ({"beta2": 1.5}, "beta2=1.5: a fraction from 0 to 1"),
        ({"z_loss": -1e-4}, "z_loss=-0.0001: 0 or more"),
    ],
)
def test_a_schedule_that_cannot_be_is_one_clear_line(fields, message):
    with pytest.raises(ConfigError) as caught:
        Schedule(**fields)
    assert message in str(caught.value)


def test_the_vocabulary_must_be_the_tokenizer_s():
    tokenizer, tokens = TokenizerStage(vocab_size=8192), TokenizeStage()
    with pytest.raises(ConfigError, match="model.vocab_size=4096: 8192, as the tokenizer step has"):
        stage().check_with({"tokenizer": tokenizer, "tokens": tokens})
    stage().check_with({"tokenizer": replace(tokenizer, vocab_size=4096), "tokens": tokens})


@pytest.mark.parametrize("decay", [Decay.cosine, Decay.linear])
def test_the_rate_rises_to_its_peak_and_falls_to_its_floor(decay):
    schedule = Schedule(steps=100, warmup_steps=10, lr=1.0, min_lr=0.1, decay=decay)
    rates = [schedule.learning_rate(step) for step in range(1, 101)]
    assert rates[0] == pytest.approx(0.1)  # never zero: the first step learns too
    assert rates[9] == pytest.approx(1.0)
    assert rates[9:] == sorted(rates[9:], reverse=True)
    assert rates[54] == pytest.approx(0.55)
    assert rates[-1] == pytest.approx(0.1)


def test_a_constant_rate_is_that_of_warm_up_stable_decay_before_its_fall():
    flat = Schedule(steps=100, warmup_steps=10, lr=1.0, min_lr=0.0, decay=Decay.constant)
    falls = replace(flat, decay=Decay.wsd, decay_steps=20)
    rates = [flat.learning_rate(step) for step in range(1, 101)]
    assert rates[:80] == [falls.learning_rate(step) for step in range(1, 81)]
    assert set(rates[9:]) == {1.0}


def test_warm_up_stable_decay_is_flat_until_the_fall():
    schedule = Schedule(
        steps=100, warmup_steps=10, lr=1.0, min_lr=0.0, decay=Decay.wsd, decay_steps=20
    )
    assert {schedule.learning_rate(step) for step in range(10, 81)} == {1.0}
    assert schedule.learning_rate(90) == pytest.approx(0.5)
    assert schedule.learning_rate(100) == 0.0
