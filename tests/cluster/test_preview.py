"""What can be seen of a run on a real Slurm while its training goes on."""

import json
import os
import shutil
import signal
from contextlib import contextmanager

import pytest

from llmhpc.files import read_json

pytestmark = pytest.mark.slurm


@contextmanager
def stopped(process: int):
    """While a process stands still."""
    os.kill(process, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process, signal.SIGCONT)


def test_a_tick_has_checkpoints_scored_and_the_page_made_while_training_goes_on(user, uncut, tiny):
    user.has_data_of(uncut[0])
    words = [o for o in tiny if "schedule.steps" not in o and "checkpoint_every" not in o]
    words += ["stages.train.schedule.steps=800", "stages.train.checkpoint_every=100"]
    words += ["stages.evaluate.dp=2"]  # a look is one process's all the same
    user.launch(*words)
    user.wait_for(lambda: list(user.root.glob("train-*/exports.json")))
    (attempt,) = user.root.glob("train-*/attempts/main-*.json")
    trainer = read_json(attempt)["pid"]
    with stopped(trainer):
        # the page shows it, too
        user.wait_for(lambda: list(user.root.glob("inspect-*/manifest.json")))
        assert "; a look at evaluate-" in user.python("tick", user.root).stdout
        again = user.python("tick", user.root).stdout
        assert "on their way" in again and "a look" not in again  # one is enough
        user.wait_for(lambda: list(user.root.glob("report-*/preview/report.html")))
        (train,), (evaluate,), (report,) = (
            user.root.glob(f"{n}-*") for n in ("train", "evaluate", "report")
        )
        assert not (train / "manifest.json").exists()
        first = (evaluate / "preview" / "scores.jsonl").read_text()
        assert "Not whole yet" in (report / "preview" / "report.html").read_text()
        rows = user.status()
        (log,) = evaluate.glob("logs/*/*_log.out")
        assert "global_rank=0(1)" in log.read_text()
        assert (rows["evaluate"]["state"], rows["report"]["state"]) == ("queued", "queued")
        assert rows["report"]["note"] == f"so far: {report}/preview"

    user.done()
    scores = (evaluate / "scores.jsonl").read_text()
    assert scores.startswith(first)
    assert len({json.loads(line)["step"] for line in scores.splitlines()}) == 8
    assert "Not whole yet" not in (report / "report.html").read_text()
    assert not (evaluate / "preview").exists() and not (report / "preview").exists()
    assert rows["evaluate"]["cost"]["attempts"] == 1  # it is paid for
    made = read_json(evaluate / "manifest.json")["files"]
    shutil.rmtree(evaluate)
    user.launch(*words)
    user.done()
    assert read_json(evaluate / "manifest.json")["files"] == made
