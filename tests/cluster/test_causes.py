"""A task that ended badly is started again as its cause asks: with more memory, elsewhere, in arrays as the site allows."""

import re
import shutil
import signal

import pytest

pytestmark = pytest.mark.slurm
BIG = 160 << 20  # bytes of a page, of which a task has several copies at a time


def asked(user, job: str) -> dict[str, str]:
    """What a job asked for, as Slurm keeps it."""
    text = user.run("scontrol", "show", "job", job, "-o").stdout
    return dict(re.findall(r"(\S+?)=(\S*)", text))


def test_a_task_that_ran_out_of_memory_gets_more(user, pages_of):
    pages = pages_of(2)
    pages.free(1, body=b"a" * BIG)
    # what a cgroup does, which the cluster has not: no task gets more than its job asked for
    limit = "cluster.environment.setup=['ulimit -v $((SLURM_MEM_PER_NODE * 1024))']"
    factor = "cluster.recovery.memory_factor=4"
    user.launch(*pages.words, "stages.collect.source.max_record_mb=1000", limit, factor)
    user.over()
    records = user.attempts("collect")
    assert [(r["rank"], r["cause"]) for r in records] == [
        (0, "done"), (1, "out_of_memory"), (1, "done"),
    ], records  # fmt: skip
    memory = [asked(user, record["job"])["MinMemoryNode"] for record in records]
    assert memory == ["512M", "512M", "2G"]


def fail_node(user, name: str) -> None:
    """What slurmctld does about a node that no longer answers; it is back when it answers again."""
    user.run("scontrol", "update", f"nodename={name}", "state=down", "reason=test")


def test_a_node_that_failed_twice_is_left_out(strict, pages_of):
    pages = pages_of(2)
    pages.hold(0, 1)
    # a site where Slurm itself does not start the jobs of a failed node again
    strict.launch(*pages.words, "+cluster.slurm.no-requeue=''")
    strict.wait_for(lambda: len(strict.begun("collect")) == 2)
    killed = strict.begun("collect")
    (node,) = {record["node"] for record in killed}  # two fit a node
    first = strict.jobs("collect")["tasks"][0]["job"]
    fail_node(strict, node)
    strict.gone(killed)
    pages.free(0, 1)
    strict.wait_for(lambda: strict.jobs("collect")["tasks"][0]["job"] != first)
    assert asked(strict, strict.jobs("collect")["tasks"][0]["job"])["ExcNodeList"] == node
    strict.over()
    records = strict.attempts("collect")
    assert [r["cause"] for r in records] == ["node_fail", "done"] * 2, records
    assert node not in {record["node"] for record in records if record["cause"] == "done"}


def test_the_only_node_is_not_left_out_however_often_it_failed(strict, pages_of):
    pages = pages_of(1)
    pages.hold(0)
    once = "cluster.recovery.exclude_node_after=1"
    strict.launch(*pages.words, "cluster.partition=one", once, "+cluster.slurm.no-requeue=''")
    strict.wait_for(lambda: strict.begun("collect"))
    (killed,) = strict.begun("collect")
    fail_node(strict, killed["node"])
    strict.gone([killed])
    pages.free(0)
    strict.over()
    assert [r["cause"] for r in strict.attempts("collect")] == ["node_fail", "done"]
    (said,) = [
        line
        for path in strict.root.glob("collect-*/logs/*/*_log.out")
        for line in path.read_text().splitlines()
        if "not left out" in line
    ]
    assert "127.0.0.4 failed often" in said


def test_a_node_failed_also_where_slurm_starts_its_jobs_again(strict, pages_of):
    pages = pages_of(1)
    pages.hold(0)
    strict.launch(*pages.words)
    strict.wait_for(lambda: strict.begun("collect"))
    (record,) = strict.begun("collect")
    fail_node(strict, record["node"])
    strict.gone([record])
    pages.free(0)
    strict.over()
    again = strict.attempts("collect")
    assert [(r["job"], r["cause"]) for r in again] == [
        (record["job"], "node_fail"), (record["job"], "done"),
    ]  # fmt: skip
    assert again[0]["end"] < again[1]["begin"]  # it cost nothing while it waited


def test_ranks_are_dealt_to_arrays_of_the_size_that_the_site_takes(strict, pages_of):
    pages = pages_of(5)
    strict.launch(*pages.words)
    first = strict.jobs("collect")
    assert [part["ranks"] for part in first["tasks"]] == [[0, 1, 2], [3, 4]]
    assert len(first["gates"]) == 1
    strict.over()
    home = next(strict.root.glob("collect-*"))
    assert (home / "manifest.json").exists()
    (home / "manifest.json").unlink()
    for rank in (1, 4):
        (home / "ranks" / f"main-{rank:05d}.json").unlink()
    strict.launch(*pages.words)
    assert [part["ranks"] for part in strict.jobs("collect")["tasks"]] == [[1, 4]]
    strict.over()
    assert (home / "manifest.json").exists()
    assert sorted(r["rank"] for r in strict.attempts("collect")) == [0, 1, 1, 2, 3, 4, 4]


def test_causes_of_jobs_that_the_controller_has_forgotten_are_found(strict, pages_of):
    pages = pages_of(2)
    pages.hold(0, 1)
    strict.launch(*pages.words, "+cluster.slurm.no-requeue=''")
    strict.wait_for(lambda: len(strict.begun("collect")) == 2)
    failed, cancelled = strict.begun("collect")
    jobs = strict.jobs("collect")
    strict.run("scancel", jobs["gates"]["main"], *jobs["rescues"])  # nobody looks while Slurm knows
    strict.run("scancel", cancelled["job"])
    strict.gone([cancelled])
    fail_node(strict, failed["node"])
    array = failed["job"].split("_")[0]
    strict.wait_for(lambda: not strict.run("squeue", "-h", "-t", "all", f"--jobs={array}").stdout)
    pages.free(0, 1)
    assert "submitted again" in strict.python("tick", strict.root).stdout
    strict.over()
    causes = [(r["rank"], r["cause"]) for r in strict.attempts("collect")]
    assert causes == [
        (0, "node_fail"), (0, "done"), (1, "cancelled"), (1, "done"),
    ]  # fmt: skip


def test_a_gate_on_a_node_without_scontrol_starts_ranks_again(user, pages_of, no_scontrol):
    pages = pages_of(2)
    pages.hold(0, 1)
    user.launch(*pages.words, no_scontrol)
    user.wait_for(lambda: len(user.begun("collect")) == 2)
    killed = user.begun("collect")
    user.run("scancel", killed[0]["job"].split("_")[0])
    user.gone(killed)
    pages.free(0, 1)
    user.over()
    assert [r["cause"] for r in user.attempts("collect")] == ["cancelled", "done"] * 2


def test_a_launcher_that_ends_in_the_middle_leaves_nothing_that_the_next_one_does_not_mend(
    user, pages_of, tmp_path
):
    pages = pages_of(2)
    pages.hold(0, 1)
    tools = tmp_path / "tools"
    tools.mkdir()
    real = shutil.which("sbatch", path=user.environment["PATH"])
    wrapper, path = tools / "sbatch", user.environment["PATH"]
    # the array is submitted, or the gate as well, or the rescue too, and the launcher does not hear of it
    for calls, sign in ((1, signal.SIGKILL), (2, signal.SIGTERM), (3, signal.SIGINT)):
        (tools / "calls").write_text("")
        wrapper.write_text(
            f"""#!/bin/sh
said=$({real} "$@") || exit
echo >> {tools}/calls
if [ $(wc -l < {tools}/calls) = {calls} ]; then kill -{int(sign)} $PPID; sleep 1; fi
echo "$said"
"""
        )
        wrapper.chmod(0o755)
        user.environment["PATH"] = f"{tools}:{path}"
        done = user.python("launch", "cluster=slurm", *pages.words, f"root={user.root}")
        assert done.returncode == (130 if sign == signal.SIGINT else -sign), done.stderr
        assert "Traceback" not in done.stderr
    user.environment["PATH"] = path
    user.launch(*pages.words)
    jobs = user.jobs("collect")
    noted = {part["job"] for part in jobs["tasks"]} | {*jobs["gates"].values(), *jobs["rescues"]}
    left = user.queue("-t", "PENDING,RUNNING")  # what was cancelled is completing
    assert {job.split("_")[0] for job in left} == noted
    (array,) = jobs["tasks"]
    user.wait_for(
        lambda: sum(r["job"].startswith(array["job"]) for r in user.begun("collect")) == 2
    )
    mine = [r for r in user.begun("collect") if r["job"].startswith(array["job"])]
    user.run("scancel", array["job"])  # its gate starts them again
    user.gone(mine)
    pages.free(0, 1)
    user.over()
    assert user.status()["collect"]["state"] == "done"
    causes = [(r["rank"], r["cause"]) for r in user.attempts("collect")]
    assert [rank for rank, cause in causes if cause == "done"] == [0, 1]
    assert {cause for _, cause in causes} == {"cancelled", "done"}
