"""What preflight says of a real Slurm's partitions and limits, and that it asks little."""

import getpass
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
PARTITIONS = [
    "PartitionName=short Nodes=127.0.0.1 MaxTime=30 MaxNodes=1",
    "PartitionName=shared Nodes=ALL MaxTime=UNLIMITED AllowQos=normal,high AllowAccounts=lab",
]

pytestmark = pytest.mark.slurm
OPTIONS = ("--nodes", "2", "--gpus", "1")  # nodes of two CPUs, 4,000 MB and one GPU


@pytest.fixture(scope="module")
def slurm(cluster_with):
    settings = [word for line in (*PARTITIONS, "MaxJobCount=100") for word in ("--set", line)]
    with cluster_with(*OPTIONS, *settings) as environment:
        yield environment


def dry_run(environment, root, *overrides):
    command = [
        sys.executable,
        "-m",
        "llmhpc.launch",
        "cluster=slurm",
        "dry_run=true",
        f"root={root}",
    ]
    return subprocess.run(
        [*command, *overrides],
        check=False,
        capture_output=True,
        text=True,
        env=environment,
        cwd=ROOT,
    )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["cluster.partition=gpu"], "cluster.partition=gpu: no such partition; one of cpu, high, low, shared, short"),
        (["cluster.partition=short"], "stages.train.resources.timeout_min=60: at most 30 on short (MaxTime)"),
        (["cluster.partition=short", "parallel=dp2", "stages.train.resources.nodes=2"],
         "stages.train.resources.nodes=2: at most 1 on short"),
        (["parallel=dp2_pp2", "stages.train.resources.mem_gb=3"],
         "4 x cpus=1, mem_gb=3 and gpus_per_node=0 fit no node of cpu (2 CPUs, 3.91 GB, 1 GPUs)"),
        (["stages.dedup.resources.mem_gb=4"], "stages.dedup.resources: 1 x cpus=1, mem_gb=4 and"),
        (["stages.train.resources.gpus_per_node=2"], "gpus_per_node=2 fit no node of cpu"),
        (["cluster.partition=shared", "cluster.qos=low"], "cluster.qos=low: partition shared takes normal,high"),
        (["cluster.partition=shared", "cluster.account=me"], "cluster.account=me: partition shared takes lab"),
        (["stages.filter.ranks=100"], "stages.*.ranks: 170 jobs in all, MaxJobCount of the site is 100; fewer ranks,"),
    ],
)  # fmt: skip
def test_what_the_site_does_not_take(overrides, message, slurm, tmp_path):
    result = dry_run(slurm, tmp_path, *overrides)
    assert result.returncode == 2, result.stderr
    assert any(
        line.startswith(f"llmhpc: {message}") or message in line
        for line in result.stderr.splitlines()
    ), result.stderr


def test_what_the_site_takes_and_three_questions_to_it(slurm, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("scontrol", "sinfo", "squeue", "sacctmgr", "sbatch", "sacct"):
        script = f'#!/bin/sh\necho {name} "$@" >> {tools}/calls\nexec {shutil.which(name)} "$@"\n'
        (tools / name).write_text(script)
        (tools / name).chmod(0o755)
    environment = slurm | {"PATH": f"{tools}:{os.environ['PATH']}"}
    for partition in ([], ["cluster.partition=shared"], ["cluster.partition='short,cpu'"]):
        (tools / "calls").unlink(missing_ok=True)
        result = dry_run(environment, tmp_path / "runs", *partition)
        assert result.returncode == 0, result.stderr
        assert result.stderr == ""
        calls = (tools / "calls").read_text().splitlines()
        assert [call.split()[0] for call in calls] == ["scontrol", "scontrol", "sinfo"]


def test_a_site_whose_partitions_have_no_default(slurm, tmp_path):
    script = f'#!/bin/sh\n{shutil.which("scontrol")} "$@" | sed s/Default=YES/Default=NO/\n'
    (tmp_path / "scontrol").write_text(script)
    (tmp_path / "scontrol").chmod(0o755)
    environment = slurm | {"PATH": f"{tmp_path}:{slurm['PATH']}"}
    result = dry_run(environment, tmp_path / "runs")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "llmhpc: cluster.partition is not set: the site has no default; one of"
    )


def test_a_controller_that_does_not_answer(tmp_path):
    conf = tmp_path / "slurm.conf"
    conf.write_text(
        "ClusterName=none\nSlurmctldHost=localhost\nSlurmctldPort=1\nAuthType=auth/munge\nSlurmctldTimeout=2\nMessageTimeout=2\nNodeName=a\nPartitionName=p Nodes=a\n"
    )
    result = dry_run(os.environ | {"SLURM_CONF": str(conf)}, tmp_path / "runs")
    assert result.returncode == 2
    assert result.stderr.startswith("llmhpc: cluster.executor=slurm: no slurmctld answers; ")
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.skipif(
    any(shutil.which(program, path=PATH) is None for program in ("slurmdbd", "mariadbd")),
    reason="no accounting: apt-get install slurmdbd mariadb-server",
)
def test_an_account_that_takes_fewer_jobs(cluster_with, tmp_path):
    user = getpass.getuser()
    with cluster_with(*OPTIONS, "--dbd", "--set", "AccountingStorageEnforce=limits") as environment:
        for words in (
            ["add", "account", "lab"],
            ["add", "user", user, "account=lab"],
            ["modify", "user", user, "set", "MaxSubmitJobs=20"],
        ):
            # an account that is there already is no harm
            subprocess.run(["sacctmgr", "-i", *words], check=False, env=environment)
        result = dry_run(environment, tmp_path, "cluster.account=lab")
    assert result.returncode == 2
    assert result.stderr.startswith(
        "llmhpc: stages.*.ranks: 74 jobs in all, MaxSubmit of your account is 20; fewer ranks,"
    )
