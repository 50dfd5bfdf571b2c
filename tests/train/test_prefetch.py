"""Batches are made ahead: the same rows, and the position of the step in hand."""

import threading
import time
from contextlib import closing

import numpy as np
import pytest

from llmhpc.tokens.reader import TokenFiles
from llmhpc.train.data import Batches
from llmhpc.train.prefetch import Prefetch
from llmhpc.train.settings import Schedule

ALONE = {"dp_rank": 0, "dp": 1, "micro_batch": 2}


def ahead(*reading, **steps):
    return closing(Prefetch(*reading, **steps))


def test_rows_are_those_of_the_batches_and_the_next_are_made_meanwhile(inputs):
    schedule = Schedule(global_batch=4, sequence_length=32)
    batches = Batches(TokenFiles(inputs["tokens"]), schedule, seed=3)
    made = []

    def read(step):
        made.append((step, threading.current_thread().name))
        return list(batches.micro_batches(step, **ALONE))

    with ahead(read, batches.position, first=3, last=6) as prefetch:
        for step in range(3, 7):
            for row, expected in zip(
                prefetch.rows(step), batches.micro_batches(step, **ALONE), strict=True
            ):
                assert np.array_equal(row.tokens, expected.tokens)
    assert [step for step, _ in made] == [3, 4, 5, 6]  # and none behind the last
    assert all(name.startswith("batches") for _, name in made)


def test_the_position_is_that_behind_the_step_in_hand():
    at = {"step": 0}

    def read(step):
        at["step"] = step
        return []

    with ahead(read, lambda: dict(at), first=1, last=9) as prefetch:
        assert prefetch.position == {"step": 0}
        for step in range(1, 5):
            prefetch.rows(step)
            time.sleep(0.02)  # the next one is made by now
            assert prefetch.position == {"step": step}
        assert at["step"] == 5


def test_what_is_waited_for_is_measured():
    with ahead(lambda step: time.sleep(0.1) or [], dict, first=1, last=2) as prefetch:
        prefetch.rows(1)
        assert prefetch.wait_s > 0.05
        time.sleep(0.3)
        prefetch.rows(2)
        assert prefetch.wait_s < 0.05


def test_an_error_is_raised_by_its_own_step():
    def read(step):
        if step == 2:
            raise ValueError("damaged")
        return []

    with ahead(read, dict, first=1, last=3) as prefetch:
        prefetch.rows(1)
        with pytest.raises(ValueError, match="damaged"):
            prefetch.rows(2)
