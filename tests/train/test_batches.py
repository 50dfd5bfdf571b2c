"""What a step reads follows from seed and step alone."""

import numpy as np
import pytest

from llmhpc.errors import ArtifactError
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.data import Batches
from llmhpc.train.settings import Schedule

SCHEDULE = {"global_batch": 8, "sequence_length": 32}


@pytest.fixture
def batches(inputs):
    return Batches(TokenFiles(inputs["tokens"]), Schedule(**SCHEDULE), seed=3)


def rows_of(batches, step, dp, micro_batch):
    return [
        row
        for rank in range(dp)
        for block in batches.micro_batches(step, dp_rank=rank, dp=dp, micro_batch=micro_batch)
        for row in block.tokens.tolist()
    ]


@pytest.mark.parametrize(("dp", "micro_batch"), [(1, 2), (2, 2), (4, 1), (8, 1)])
def test_the_global_batch_is_the_same_for_any_number_of_replicas(batches, dp, micro_batch):
    assert sorted(rows_of(batches, 5, dp, micro_batch)) == sorted(rows_of(batches, 5, 1, 8))


def test_an_epoch_reads_every_window_once_and_the_next_in_another_order(batches):
    numbers = [n for step in range(1, 400) for n in batches.numbers(step)]
    first, second = numbers[: batches.count], numbers[batches.count : 2 * batches.count]
    assert sorted(first) == sorted(second) == list(range(batches.count))
    assert first != second


def test_another_seed_is_another_order(inputs, batches):
    other = Batches(TokenFiles(inputs["tokens"]), Schedule(**SCHEDULE), seed=4)
    assert other.numbers(1) != batches.numbers(1)


def test_a_window_ends_with_the_token_that_the_next_one_begins_with(batches):
    whole = batches.sequences.tokens.window(0, 65)
    assert np.array_equal(batches.sequences.tokens.window(32, 33), whole[32:])


def test_too_few_tokens_for_one_step_are_refused(inputs):
    with pytest.raises(ArtifactError) as caught:
        Batches(
            TokenFiles(inputs["tokens"]), Schedule(global_batch=1000, sequence_length=32), seed=0
        )
    assert "20000 training tokens are 624 sequences of 32: one step needs 1000" in str(caught.value)
