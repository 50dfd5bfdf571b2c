"""What the ledger says of a run on a real Slurm, and a budget that stops it."""

import json
import os
import shutil

import pytest

from llmhpc.files import read_json

PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NO_DATABASE = any(shutil.which(program, path=PATH) is None for program in ("slurmdbd", "mariadbd"))
START_S = 4.0  # of a job until its task's record begins, and from its end until Slurm has noticed

pytestmark = pytest.mark.slurm


@pytest.mark.skipif(NO_DATABASE, reason="no accounting: apt-get install slurmdbd mariadb-server")
def test_the_ledger_agrees_with_slurms_accounting_and_knows_the_time_in_the_queue(
    cluster_with, user_of, data, tmp_path
):
    # one core, so that tasks wait for each other
    with cluster_with("--nodes", "1", "--cpus", "1", "--dbd") as environment:
        user = user_of(environment, tmp_path / "root")
        user.launch(*data)
        user.wait_for(lambda: user.attempts("filter"))
        user.run("scancel", user.attempts("filter")[0]["job"])  # a second start of the same rank
        rows = user.done()
        user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
        said = user.python("status", user.root, "--sacct").stdout
    cost = {key: sum(row["cost"][key] for row in rows.values()) for key in rows["filter"]["cost"]}
    (line,) = (line for line in said.splitlines() if line.startswith("sacct counts"))
    counted = float(line.split()[2])
    tasks = cost["attempts"]
    # sacct counts whole seconds and status two digits of an hour
    assert cost["cpu_hours"] <= counted + 0.005 + tasks / 3600
    assert counted <= cost["cpu_hours"] + 0.005 + tasks * START_S / 3600
    records = user.attempts("filter")
    queued = max(r["begin"] for r in records) - min(r["begin"] for r in records)
    assert 0 < rows["filter"]["cost"]["waiting_hours"] * 3600 < queued
    assert all(r["ready"] <= r["begin"] for r in records)


def test_a_spent_budget_lets_tasks_end_and_submits_nothing_more(user, data):
    budget = "cluster.budget.cpu_hours=1e-4"  # a third of a second
    user.launch(*data, budget)
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    (launch,) = user.root.glob("launches/*.json")
    record = read_json(launch)
    assert record["ended"] == "failed"
    assert record["why"].startswith("cluster.budget.cpu_hours=0.0001: ")
    assert user.status()["collect"]["state"] == "done"
    assert user.attempts("filter") == []
    assert record["why"] in user.python("status", user.root).stdout
    assert user.python("tick", user.root).stdout == ""  # over is over
    again = user.python("launch", "cluster=slurm", *data, budget, f"root={user.root}")
    assert (again.returncode, again.stderr.count("\n")) == (2, 1), again.stderr
    assert "cluster.budget.cpu_hours=0.0001" in again.stderr
    user.launch(*data, "cluster.budget.cpu_hours=10")
    user.done()


def test_a_training_in_a_budget_is_stopped_by_its_gate(user, uncut):
    """A warned training saves; the gate sees that the budget is spent and submits no successor."""
    other, words, _ = uncut
    user.has_data_of(other)
    rows = other.status().values()
    spent = sum(row["cost"]["cpu_hours"] for row in rows if row["name"] != "train")
    user.launch(*words, f"cluster.budget.cpu_hours={spent + 1e-6}")
    user.trains(beyond=20)
    (job,) = user.running(".main")
    user.run("scancel", "--signal=USR2", job)
    user.wait_for(lambda: user.run("squeue", "-h").stdout == "")
    last = user.attempts("train")[-1]
    assert last["cause"] == "preempted" and "saved" in last
    launches = [read_json(path) for path in sorted(user.root.glob("launches/*.json"))]
    assert launches[-1]["why"].startswith("cluster.budget.cpu_hours=")
    assert json.loads(user.python("status", user.root, "--json").stdout)[-1]["state"] != "done"
