"""What happens to tasks, gates and trainings that are killed, cancelled or cut on a real Slurm."""

import contextlib
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from llmhpc.files import read_json

pytestmark = pytest.mark.slurm


def files(root: Path, step: str) -> dict:
    return read_json(next(root.glob(f"{step}-*/manifest.json")))["files"]


def begun(user, step: str) -> list[dict]:
    """Attempts of a step that go on."""
    return [record for record in user.attempts(step) if "end" not in record]


def test_killed_and_cancelled_tasks_are_started_again_alone(user, data, local_run):
    user.launch(*data)
    user.wait_for(lambda: len(begun(user, "filter")) >= 2)
    killed, cancelled = begun(user, "filter")[:2]
    os.kill(killed["pid"], signal.SIGKILL)
    user.run("scancel", cancelled["job"])
    user.done()
    causes = {(r["rank"], r["cause"]) for r in user.attempts("filter")}
    assert {(killed["rank"], "killed"), (cancelled["rank"], "cancelled")} <= causes
    assert len(user.attempts("filter")) == 6  # four ranks, two of them twice
    for step in ("collect", "filter"):
        assert files(user.root, step) == read_json(local_run.homes[step] / "manifest.json")["files"]


def test_a_launch_of_a_run_that_goes_on_leaves_its_tasks_alone(user, data):
    user.launch(*data)
    user.wait_for(lambda: len(begun(user, "filter")) >= 2)
    before = read_json(next(user.root.glob("filter-*/jobs.json")))
    (line,) = user.launch(*data).splitlines()[:-1]
    assert line.split()[:2] == [next(user.root.glob("filter-*")).name, "joins"]
    assert read_json(next(user.root.glob("filter-*/jobs.json"))) == before
    assert len(list(user.root.glob("launches/*.json"))) == 1
    user.done()
    assert {record["cause"] for record in user.attempts("filter")} == {"done"}


def test_a_killed_gate_is_rescued(user, data):
    user.launch(*data)
    jobs = read_json(next(user.root.glob("collect-*/jobs.json")))
    user.wait_for(lambda: user.running(".gate"))
    user.run("scancel", "--signal=KILL", jobs["gates"]["main"])
    user.done()


def test_a_cause_that_comes_too_often_stops_the_run_and_says_so(user, data):
    user.launch(*data, "cluster.recovery.cancelled=1")
    for _ in range(2):
        user.wait_for(lambda: len(begun(user, "filter")) == 4)
        user.run("scancel", begun(user, "filter")[0]["job"].split("_")[0])
        user.wait_for(lambda: not begun(user, "filter"))
    rows = user.settled()
    assert rows["filter"]["state"] == "failed"
    assert "cancelled, 2 times (cluster.recovery.cancelled=1)" in rows["filter"]["note"]
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    (launch,) = user.root.glob("launches/*.json")
    assert read_json(launch)["ended"] == "failed"


def test_a_cancelled_run_stays_cancelled_until_it_is_launched_again(user, data, tmp_path):
    told = tmp_path / "told"
    notify = f"notify.command=[tee,{told}]"
    user.launch(*data, notify)
    user.wait_for(lambda: begun(user, "filter"))
    out = user.python("cancel", "--root", user.root).stdout
    assert "cancelled: filter-" in out
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    assert user.python("tick", user.root).stdout == ""
    assert user.status()["filter"]["state"] != "done"
    user.launch(*data, notify)
    user.done()
    assert "told" in user.python("tick", user.root).stdout
    assert json.loads(told.read_text())["state"] == "done"
    assert user.python("tick", user.root).stdout == ""  # once


def test_a_tick_submits_what_was_taken_off_the_queue_by_hand(user, data):
    user.launch(*data)
    user.wait_for(lambda: begun(user, "collect") or begun(user, "filter"))
    user.run("scancel", "--me")
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    assert "submitted again" in user.python("tick", user.root).stdout
    user.done()


def test_a_tick_without_cron_comes_again_until_the_run_is_over(user, data):
    user.launch(*data)
    user.wait_for(lambda: begun(user, "collect") or begun(user, "filter"))
    user.run("scancel", "--me")
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    user.environment |= {"LLMHPC_PYTHON": sys.executable, "LLMHPC_TICK_S": "1"}
    script = Path(__file__).parents[2] / "sbatch" / "tick.sbatch"
    assert user.run("sbatch", "-o", "/dev/null", script, user.root).returncode == 0
    user.wait_for(lambda: len(list(user.root.glob("*/manifest.json"))) == 2)
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    ticks = user.run("squeue", "-h", "-t", "all", "-n", "llmhpc-tick", "-o", "%T").stdout.split()
    assert len(ticks) >= 2
    assert set(ticks) == {"COMPLETED"}


def test_logs_are_found_by_step_and_rank(user, data):
    user.launch(*data)
    user.done()
    shown = user.python("logs", "filter", "2", "--root", user.root)
    assert shown.returncode == 0, shown.stderr
    assert shown.stderr.startswith(f"==> {user.root}/filter-")
    assert "submitit" in shown.stdout
    assert user.python("logs", "filter", "--gate", "--root", user.root).returncode == 0
    wrong = user.python("logs", "filter", "9", "--root", user.root)
    assert (wrong.returncode, wrong.stderr.count("\n")) == (2, 1)
    assert "ranks 0 to 3 have begun" in wrong.stderr
    assert "this run has collect, filter" in user.python("logs", "x", "--root", user.root).stderr


def test_points_of_a_sweep_share_what_they_have_in_common(user, data):
    rule = "stages.filter.rules.gopher_quality.min_words=50,60"
    out = user.launch("-m", *data, rule)
    assert [line.split("-")[0] for line in out.splitlines()[:-1]] == ["collect", "filter", "filter"]
    user.settled()
    assert len(list(user.root.glob("filter-*/manifest.json"))) == 2
    assert len(list(user.root.glob("collect-*"))) == 1


def test_jobs_run_the_code_as_it_was_at_submission(user, data):
    user.launch(*data)
    user.done()
    (code,) = (user.root / "code").iterdir()
    for manifest in user.root.glob("*/manifest.json"):
        assert read_json(manifest)["code"] == str(code / "llmhpc")
    assert (code / "commit.txt").exists() and (code / "changes.diff").exists()


def test_a_root_with_shell_characters_never_reaches_a_shell(user, data, tmp_path):
    user.root = tmp_path / "a b $(touch x) 'q' \"é\" ;&"
    quoted = str(user.root).replace("\\", "\\\\").replace('"', '\\"')
    done = user.python("launch", "cluster=slurm", *data, f'root="{quoted}"')
    assert done.returncode == 0, done.stderr
    user.done()
    assert not list(tmp_path.rglob("x"))


@pytest.mark.parametrize(
    "how",
    [
        ["cluster.requeue=true"],
        ["cluster.requeue=true", "no scontrol"],  # the gate submits a successor
        ["cluster.links=3", "no scontrol"],
    ],
    ids=["requeued", "successor", "links"],
)
def test_a_training_that_is_cut_ends_as_one_that_was_not(uncut, how, no_scontrol, tmp_path):
    user, words, expected = uncut
    (train,) = user.root.glob("train-*")
    train.rename(tmp_path / "before")
    user.launch(*words, *(no_scontrol if word == "no scontrol" else word for word in how))
    user.trains(beyond=20)
    (job,) = user.running(".main")
    user.run("scancel", "--signal=USR2", job)  # what Slurm sends ahead of a limit
    user.done()
    assert (user.losses(), user.exports()) == expected
    records = user.attempts("train")
    assert [record["cause"] for record in records] == ["preempted", "done"]
    assert "saved" in records[0]
    same_job = records[0]["job"] == records[1]["job"]
    assert same_job == (how == ["cluster.requeue=true"])
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")  # links and rescues leave it
    assert sorted(path.name for path in (train / "checkpoints").glob("[0-9]*")) == ["200", "400"]


def test_a_training_that_preemption_cancels_goes_on_in_another_job(uncut, strict):
    user, words, expected = uncut
    strict.has_data_of(user)
    strict.launch(*words, "cluster.partition=warned", "cluster.requeue=false")
    strict.trains(beyond=20)
    important = ["--partition=high", "--nodes=4", "--exclusive", "--output=/dev/null"]
    assert strict.run("sbatch", *important, "--wrap=true").returncode == 0
    strict.over()
    strict.done()
    assert (strict.losses(), strict.exports()) == expected
    first, last = strict.attempts("train")
    assert (first["cause"], last["cause"]) == ("preempted", "done")
    assert first["job"] != last["job"]
    assert "saved" in first
    assert "saved and stopped (preempted)" in Path(first["log"]).read_text()


def test_a_training_that_is_killed_without_a_word_goes_on_from_its_last_save(user, uncut):
    other, words, expected = uncut
    user.has_data_of(other)
    user.launch(*words, "stages.train.save_every_min=0.01")
    user.wait_for(lambda: list(user.root.glob("train-*/progress/*.saved.json")))
    os.kill(user.begun("train")[0]["pid"], signal.SIGKILL)
    user.done()
    assert (user.losses(), user.exports()) == expected
    first, last = user.attempts("train")
    assert (first["cause"], last["cause"]) == ("killed", "done")
    assert first["saved"] <= first["end"]


def process_of(home: Path, number: int) -> int:
    """The pid of one of the processes that Slurm started for a step's task; 0 if it is not there yet."""
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            program, *words = (process / "cmdline").read_text().split("\0")
            variables = (process / "environ").read_text().split("\0")
            ours = "python" in program and f"{home}/logs/%j" in words
            if ours and f"SLURM_PROCID={number}" in variables and "SLURM_NTASKS=2" in variables:
                return int(process.name)
    return 0


@pytest.mark.parametrize("number", [0, 1])
def test_a_process_that_dies_before_it_has_met_the_others_keeps_nobody_waiting(
    uncut, number, tmp_path
):
    user, words, _ = uncut
    (train,) = user.root.glob("train-*")
    train.rename(tmp_path / "before")
    two = ["parallel=dp2", "stages.train.resources.nodes=2"]
    user.launch(*[word for word in words if word != "parallel=single"], *two)
    user.wait_for(lambda: process_of(train, number))
    os.kill(process_of(train, number), signal.SIGKILL)
    user.done()
    assert [record["cause"] for record in user.attempts("train")] == ["killed", "done"]
