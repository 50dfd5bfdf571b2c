"""The records of starts that could not close them themselves."""

import os

import pytest

from llmhpc.config import Resources
from llmhpc.errors import NotFiniteError
from llmhpc.handoff import attempts
from llmhpc.handoff.attempts import Attempt


def begin_and_die(home) -> None:
    """Process 0 of two begins and ends without a word."""
    if (pid := os.fork()) == 0:
        Attempt(home, "main", 0, Resources(), (0, 2)).__enter__()
        os._exit(9)
    os.waitpid(pid, 0)


def test_a_killed_attempt_has_the_cause_that_another_process_of_it_gave(tmp_path):
    begin_and_die(tmp_path)
    with pytest.raises(NotFiniteError), Attempt(tmp_path, "main", 0, Resources(), (1, 2)):
        raise NotFiniteError("the loss is not finite")
    attempts.close(tmp_path, {})
    (record,) = attempts.every(tmp_path)
    assert (record["cause"], record["error"]) == ("nan", "the loss is not finite")


def test_a_killed_attempt_of_which_nobody_said_anything_was_killed(tmp_path):
    begin_and_die(tmp_path)
    attempts.close(tmp_path, {})
    (record,) = attempts.every(tmp_path)
    assert record["cause"] == "killed"
    assert "error" not in record
