"""A training in which no step ends does not hold its nodes: it ends, and says who waits where."""

import os
import re
import signal
import sys
import time

import pytest

from llmhpc.config import Phase, Recovery
from llmhpc.errors import HangError
from llmhpc.executors.recovery import decide
from llmhpc.handoff import attempts
from llmhpc.processes import Place
from llmhpc.train.watchdog import Watchdog, described, where

TIMEOUT_S = 4


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_stops_ends_the_training_with_a_cause_and_stacks(stopped, runs, tmp_path):
    asked = {"parallel": {"dp": 2}, "schedule": {"steps": 10**6}, "checkpoint_every": 10**6}
    job = runs.start(tmp_path, hang_timeout_min=TIMEOUT_S / 60, health_check=False, **asked)
    lines = tmp_path / "metrics.jsonl"
    while not lines.exists() or len(lines.read_text().splitlines()) < 3:
        assert job.all[0].poll() is None, job.all[0].communicate()[1]
        time.sleep(0.05)
    os.kill(job.all[stopped].pid, signal.SIGSTOP)
    begun = time.monotonic()
    other = job.all[1 - stopped]
    said = other.communicate(timeout=60)[1]
    took = time.monotonic() - begun
    job.all[stopped].kill()  # as Slurm does when a process of a job has ended badly
    job.all[stopped].communicate()
    print(f"stopped process {stopped}: the other one ended after {took:.1f} s")
    assert took < 30
    assert other.returncode == 1
    message = rf"no step has ended for {TIMEOUT_S} s \(hang_timeout_min\), after step \d+: "
    message += rf"process {stopped} says nothing; process {1 - stopped} in \w+ \(\w+\.py:\d+\)"
    pattern = re.compile(message)
    assert pattern.search(said), said[-3000:]
    assert "most recent call first" in said and "trainer.py" in said
    attempts.close(tmp_path, {})
    (record,) = attempts.by_rank(tmp_path, "main")[0]
    assert record["cause"] == "hang"
    assert pattern.search(record["error"])
    phase = Phase("main", 1)
    assert not decide(tmp_path, phase, [0], Recovery(), 0).stop
    assert "cluster.recovery.hang=0" in decide(tmp_path, phase, [0], Recovery(hang=0), 0).stop


def test_a_watchdog_hears_every_step(tmp_path):
    """One that fires ends this process: its time is long enough for a busy machine."""
    ended: list[HangError] = []
    place = Place(0, 1, 0, None)
    begun = time.monotonic()
    with Watchdog(TIMEOUT_S, tmp_path, place, ended.append) as watchdog:
        for step in range(12):
            time.sleep(0.4)
            watchdog.beat(step)
        assert time.monotonic() - begun > TIMEOUT_S
    assert not ended and not list(tmp_path.iterdir())


def test_where_a_process_waits_is_the_innermost_line_of_ours():
    from llmhpc.files import read_json

    class Folder:
        def read_text(self):
            self.seen = where(sys._getframe())
            raise FileNotFoundError

    folder = Folder()
    assert read_json(folder) is None
    assert folder.seen.startswith("read_json (files.py:")


def test_processes_at_the_same_place_are_named_together():
    notes = {rank: {"where": "finish (optimizer.py:1)"} for rank in (0, 2, 3)}
    notes[4] = {"where": "rows (prefetch.py:2)"}
    assert described(notes, 5) == (
        "process 1 says nothing; process 0, 2, 3 in finish (optimizer.py:1); process 4 in rows (prefetch.py:2)"
    )
    many = described({rank: {"where": "x"} for rank in range(20)}, 20)
    assert many == "process 0, 1, 2, 3, 4, 5, 6, 7 and 12 more in x"
