"""What a Slurm site allows: three questions to its controller, and one to its accounts where they set limits."""

import getpass
import re
import shutil
import subprocess
from collections.abc import Iterator

from llmhpc.config import Cluster, Finding
from llmhpc.planning.plan import Step
from llmhpc.site.facts import parse_time_min

MB_PER_GB = 1024  # submitit writes --mem=2GB, which Slurm takes for 2048 MB

Table = dict[str, str]


def check(cluster: Cluster, steps: list[Step]) -> list[Finding]:
    """What stands between ``steps`` and this site's queue."""
    if not shutil.which("sbatch"):
        return [
            Finding(
                "cluster.executor=slurm: there is no sbatch here; cluster=local runs on this machine,"
                " sbatch/devcluster up starts a Slurm on it"
            )
        ]
    answer = _call("scontrol", "show", "config")
    if answer.returncode:
        why = " ".join((answer.stdout + answer.stderr).split())[:200]
        return [Finding(f"cluster.executor=slurm: no slurmctld answers ({why})")]
    config = dict(re.findall(r"^(\w+)\s*= (.*?)\s*$", answer.stdout, re.MULTILINE))
    rows = _call("scontrol", "show", "partition", "-o").stdout.splitlines()
    partitions = {row["PartitionName"]: row for row in map(_fields, rows)}
    wanted = _wanted(cluster, partitions)
    findings = [
        *_of_partitions(cluster, partitions, wanted),
        *_of_numbers(config, cluster.account, steps),
    ]
    if known := [partitions[name] for name in wanted if name in partitions]:
        nodes = _node_sizes(wanted)
        for step in steps:
            findings += _of_step(step, known, nodes)
    return findings


def _of_partitions(
    cluster: Cluster, partitions: dict[str, Table], wanted: list[str]
) -> Iterator[Finding]:
    """Whether the partition is there and takes this account and QOS."""
    if not wanted:
        yield Finding(
            f"cluster.partition is not set: the site has no default; {_any_of(partitions)}"
        )
    for name in wanted:
        if name not in partitions:
            yield Finding(f"cluster.partition={name}: no such partition; {_any_of(partitions)}")
            continue
        for key, field in (("qos", "AllowQos"), ("account", "AllowAccounts")):
            asked, allowed = getattr(cluster, key), partitions[name].get(field, "ALL")
            if asked and allowed != "ALL" and asked not in allowed.split(","):
                yield Finding(f"cluster.{key}={asked}: partition {name} takes {allowed}")


def _of_step(
    step: Step, partitions: list[Table], nodes: list[tuple[int, float, int]]
) -> Iterator[Finding]:
    """Whether one of the partitions has the time, and nodes of the size and number, that a step asks for."""
    asked, key = step.stage.resources, f"stages.{step.name}.resources"
    names = " or ".join(row["PartitionName"] for row in partitions)
    longest = [parse_time_min(row["MaxTime"]) for row in partitions]
    limited = [minutes for minutes in longest if minutes is not None]
    if len(limited) == len(longest) and asked.timeout_min > max(limited):
        yield Finding(
            f"{key}.timeout_min={asked.timeout_min}: at most {max(limited)} on {names} (MaxTime)"
        )
    most = max(_limit(row["MaxNodes"], int(row["TotalNodes"])) for row in partitions)
    if asked.nodes > most:
        yield Finding(f"{key}.nodes={asked.nodes}: at most {most} on {names}")
    processes = step.stage.processes() // asked.nodes
    cpus = processes * asked.cpus
    if not any(
        cpus <= node[0] and asked.mem_gb <= node[1] and asked.gpus_per_node <= node[2]
        for node in nodes
    ):
        there = "; ".join(f"{c} CPUs, {m:.3g} GB, {g} GPUs" for c, m, g in nodes)
        yield Finding(
            f"{key}: {processes} x cpus={asked.cpus}, mem_gb={asked.mem_gb:g} and"
            f" gpus_per_node={asked.gpus_per_node} fit no node of {names} ({there})"
        )


def _of_numbers(config: Table, account: str | None, steps: list[Step]) -> Iterator[Finding]:
    """Whether the queue takes so many jobs. Slurm counts every task of an array."""
    gates_and_rescue = sum(1 + len(step.stage.phases()) for step in steps)
    jobs = sum(phase.ranks for step in steps for phase in step.stage.phases()) + gates_and_rescue
    limits = {"MaxJobCount of the site": int(config.get("MaxJobCount", jobs))}
    if "limits" in config.get("AccountingStorageEnforce", ""):
        limits["MaxSubmit of your account"] = _max_submit(account, jobs)
    for name, most in limits.items():
        if jobs > most:
            yield Finding(
                f"stages.*.ranks: {jobs:,} jobs in all, {name} is {most:,}; fewer ranks, or a part of"
                " the stages at a time"
            )


def _max_submit(account: str | None, default: int) -> int:
    """The largest MaxSubmit of this user's associations with ``account``; ``default`` if one sets none."""
    who = [f"user={getpass.getuser()}", *([f"account={account}"] if account else [])]
    rows = _call("sacctmgr", "-n", "-P", "show", "assoc", *who, "format=MaxSubmit").stdout
    return max((_limit(row, default) for row in rows.splitlines()), default=default)


def _wanted(cluster: Cluster, partitions: dict[str, Table]) -> list[str]:
    if cluster.partition:
        return cluster.partition.split(",")
    return [name for name, row in partitions.items() if row.get("Default") == "YES"]


def _node_sizes(partitions: list[str]) -> list[tuple[int, float, int]]:
    """CPUs, GB and GPUs of each kind of node."""
    call = _call("sinfo", "-h", "-e", "-p", ",".join(partitions), "-o", "%c|%m|%G")
    sizes = set()
    for line in call.stdout.splitlines():
        cpus, megabytes, gres = line.split("|")
        gpus = sum(map(int, re.findall(r"gpu(?::[^:,()]+)?:(\d+)", gres)))
        sizes.add((int(cpus), int(megabytes) / MB_PER_GB, gpus))
    return sorted(sizes)


def _fields(line: str) -> Table:
    return dict(word.split("=", 1) for word in line.split() if "=" in word)


def _limit(text: str, default: int) -> int:
    return int(text) if text.isdigit() else default


def _any_of(partitions: dict[str, Table]) -> str:
    return f"one of {', '.join(sorted(partitions))}"


def _call(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, check=False, capture_output=True, text=True)
