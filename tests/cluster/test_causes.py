"""A task that ended badly is started again as its cause asks: with more memory, elsewhere, in arrays as the site allows."""

import re

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
