"""An evaluate step over several processes, through the launcher: the scores of one, also where one is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhpc.handoff import attempts

pytestmark = pytest.mark.slow


@pytest.fixture
def launch(local_run, tiny, tmp_path):
    """Launches the small run once more, of which all that comes before the evaluation is there."""
    for home in local_run.homes.values():
        if not home.name.startswith(("evaluate", "report")):
            shutil.copytree(home, tmp_path / home.name, copy_function=os.link)

    def start(*words):
        command = [sys.executable, "-m", "llmhpc.launch", *tiny, "~stages.report", *words]
        pipe = subprocess.PIPE
        command += [f"root={tmp_path}"]
        return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True)

    return start


def made(process: subprocess.Popen, root: Path) -> Path:
    out, err = process.communicate(timeout=300)
    assert process.returncode == 0, out + err
    (home,) = root.glob("evaluate-*")
    return home


def scores(home: Path) -> list[dict]:
    return [json.loads(line) for line in (home / "scores.jsonl").read_text().splitlines()]


def the_same(home: Path, other: Path) -> None:
    for one, two in zip(scores(home), scores(other), strict=True):
        assert one["value"] == pytest.approx(two["value"], rel=1e-6)
        assert one | {"value": 0, "stderr": 0} == two | {"value": 0, "stderr": 0}
        assert (one["stderr"] or 0) == pytest.approx(two["stderr"] or 0, rel=1e-5)


def test_processes_that_hold_a_model_together_find_the_scores_of_one(launch, local_run, tmp_path):
    home = made(launch("stages.evaluate.tp=2"), tmp_path)
    the_same(home, local_run.homes["evaluate"])
    assert [record["cpus"] for record in attempts.every(home)] == [2]


def process_of(home: Path, number: int) -> int:
    """The pid of one of the processes of a step's task."""
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_text()
            variables = (process / "environ").read_text().split("\0")
        except OSError:
            continue
        if str(home) in command and f"SUBMITIT_LOCAL_GLOBALID={number}" in variables:
            return int(process.name)
    pytest.fail(f"no process {number} of {home}")


def test_a_copy_of_the_model_that_is_killed_keeps_nobody_waiting(launch, local_run, tmp_path):
    launched = launch("stages.evaluate.dp=2", "stages.evaluate.batch_tokens=300")
    until = time.monotonic() + 200
    while len(list(tmp_path.glob("evaluate-*/work/answers/*/batches/*.jsonl"))) < 2:
        assert time.monotonic() < until and launched.poll() is None
        time.sleep(0.005)
    (home,) = tmp_path.glob("evaluate-*")
    os.kill(process_of(home, 1), signal.SIGKILL)
    the_same(made(launched, tmp_path), local_run.homes["evaluate"])
    assert [record["cause"] for record in attempts.every(home)] == ["killed", "done"]
