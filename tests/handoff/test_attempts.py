"""The records of starts that could not close them themselves."""

import os
import subprocess
import threading

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


@pytest.fixture
def small_disk(tmp_path):
    """A folder with a filesystem of a megabyte."""
    options = ["-t", "tmpfs", "-o", "size=1m", "tmpfs", str(tmp_path)]
    if os.geteuid() or subprocess.run(["mount", *options], check=False).returncode:
        pytest.skip("only root can mount a small filesystem")
    yield tmp_path
    subprocess.run(["umount", "-l", str(tmp_path)], check=True)


def test_an_end_on_a_full_disk_is_noted_as_soon_as_there_is_room(small_disk):
    filler = small_disk / "filler"

    def fill() -> None:
        with filler.open("wb", buffering=0) as file:
            while True:
                file.write(bytes(4096))

    with pytest.raises(OSError), Attempt(small_disk, "main", 0, Resources(), (0, 1)):
        threading.Timer(1.5, filler.unlink).start()
        fill()
    (record,) = attempts.every(small_disk)
    assert record["cause"] == "disk_full"
