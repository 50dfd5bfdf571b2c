"""A batch that grows: what each step reads, in any layout and after any kill."""

import pytest

from llmhpc.errors import ConfigError
from llmhpc.jobs.train import Config
from llmhpc.models.llama import Config as Llama
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.data import Batches
from llmhpc.train.settings import Parallel, Schedule

GROWING = {"steps": 8, "global_batch": 8, "sequence_length": 32, "warmup_steps": 2}
GROWING |= {"batch_warmup": [[2, 2], [5, 4]]}
SIZES = [2, 2, 4, 4, 4, 8, 8, 8]


def exact(records):
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"]) for r in records]


def test_the_steps_read_the_row_of_sequences_one_after_the_other(inputs):
    tokens = TokenFiles(inputs["tokens"])
    growing = Batches(tokens, Schedule(**GROWING), seed=3)
    even = Batches(tokens, Schedule(global_batch=4, sequence_length=32), seed=3)
    numbers = [growing.numbers(step) for step in range(1, 9)]
    assert [len(found) for found in numbers] == SIZES
    assert [n for found in numbers for n in found] == [
        n for step in range(1, 11) for n in even.numbers(step)
    ]


def test_tokens_and_positions_are_those_of_the_steps_before():
    schedule = Schedule(**GROWING)
    for step in range(1, 9):
        assert schedule.sequences_before(step) == sum(SIZES[: step - 1])
        assert schedule.tokens_at(step) == 32 * sum(SIZES[:step])
        assert schedule.steps_of(schedule.tokens_at(step)) == step
        assert schedule.steps_of(schedule.tokens_at(step) - 1) == step - 1


@pytest.mark.parametrize(
    "stages", [[[5, 4], [2, 2]], [[2, 4], [5, 2]], [[8, 4]], [[5, 8]], [[0, 4]], [[5]], [[5, 4, 3]]]
)
def test_stages_that_do_not_rise_are_one_clear_line(stages):
    with pytest.raises(ConfigError) as caught:
        Schedule(**GROWING | {"batch_warmup": stages})
    assert str(caught.value).startswith(f"batch_warmup={stages}: pairs of [step, sequences]")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("parallel", "message"),
    [
        ({"micro_batch": 4}, "schedule.batch_warmup=[[2, 2], [5, 4]]: each batch a multiple of"),
        ({"micro_batch": 1, "pp": 4}, "parallel.pp=4: with 2 micro-batches per step at most 3"),
    ],
)
def test_the_smallest_batch_has_to_fit_the_layout(parallel, message):
    with pytest.raises(ConfigError) as caught:
        Config(model=Llama(), parallel=Parallel(**parallel), schedule=Schedule(**GROWING))
    assert message in str(caught.value)


@pytest.fixture(scope="module")
def growing(runs, tmp_path_factory):
    home = tmp_path_factory.mktemp("growing")
    runs.here(home, schedule=GROWING)
    return home


def test_a_killed_run_goes_on_with_the_batch_of_its_step(runs, growing, tmp_path):
    home = tmp_path / "run"
    runs.start(home, schedule=GROWING).kill_after(step=5, saved=3)
    assert exact(runs.here(home, schedule=GROWING)) == exact(runs.records(growing))
    assert [record["tokens"] for record in runs.records(home)] == [
        Schedule(**GROWING).tokens_at(step) for step in range(1, 9)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"dp": 2, "zero_stage": 1}, {"tp": 2}, {"pp": 2}])
def test_every_layout_has_the_losses_of_one_process(parallel, runs, growing, tmp_path):
    parallel = {"micro_batch": 1} | parallel
    records = runs.spread(tmp_path / "run", parallel=parallel, schedule=GROWING)
    for one, other in zip(records, runs.records(growing), strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5
        assert abs(one["grad_norm"] - other["grad_norm"]) < 1e-4
        assert one["tokens"] == other["tokens"]
