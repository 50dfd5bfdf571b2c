"""What a Slurm site allows: three questions to its controller, and one to its accounts where they set limits."""

import getpass
import shutil
from collections.abc import Iterator

from llmhpc.config import Cluster, Finding
from llmhpc.planning.plan import Step
from llmhpc.site import facts
from llmhpc.site.facts import Partition


def check(cluster: Cluster, steps: list[Step]) -> list[Finding]:
    """What stands between ``steps`` and this site's queue."""
    if not shutil.which("sbatch"):
        return [
            Finding(
                "cluster.executor=slurm: there is no sbatch here; cluster=local runs on this machine,"
                " sbatch/devcluster up starts a Slurm on it"
            )
        ]
    settings = facts.ask_settings()
    partitions = facts.ask_partitions() if settings else None
    if settings is None or partitions is None:
        return [Finding("cluster.executor=slurm: no slurmctld answers; scontrol ping says more")]
    names = _wanted(cluster, partitions)
    there = [p for p in partitions if p.name in names]
    return [
        *_of_partitions(cluster, partitions, names),
        *_of_numbers(settings, cluster.account, steps),
        *(finding for step in steps if there for finding in _of_step(step, there)),
    ]


def _wanted(cluster: Cluster, partitions: list[Partition]) -> list[str]:
    if cluster.partition:
        return cluster.partition.split(",")
    return [p.name for p in partitions if p.default]


def _of_partitions(
    cluster: Cluster, partitions: list[Partition], names: list[str]
) -> Iterator[Finding]:
    """Whether the partition is there and takes this account and QOS."""
    known = {p.name: p for p in partitions}
    any_of = f"one of {', '.join(sorted(known))}"
    if not names:
        yield Finding(f"cluster.partition is not set: the site has no default; {any_of}")
    for name in names:
        if name not in known:
            yield Finding(f"cluster.partition={name}: no such partition; {any_of}")
            continue
        for key, taken in known[name].takes.items():
            asked = getattr(cluster, key)
            if asked and asked not in taken:
                yield Finding(f"cluster.{key}={asked}: partition {name} takes {','.join(taken)}")


def _of_step(step: Step, partitions: list[Partition]) -> Iterator[Finding]:
    """Whether one of the partitions has the time, and nodes of the size and number, that a step asks for."""
    asked, key = step.stage.resources, f"stages.{step.name}.resources"
    names = " or ".join(p.name for p in partitions)
    longest = [p.max_time_min for p in partitions]
    limited = [minutes for minutes in longest if minutes is not None]
    if len(limited) == len(longest) and asked.timeout_min > max(limited):
        yield Finding(
            f"{key}.timeout_min={asked.timeout_min}: at most {max(limited)} on {names} (MaxTime)"
        )
    most = max(p.max_nodes for p in partitions)
    if asked.nodes > most:
        yield Finding(f"{key}.nodes={asked.nodes}: at most {most} on {names}")
    processes = step.stage.processes() // asked.nodes
    need = facts.Node(processes * asked.cpus, asked.mem_gb, asked.gpus_per_node)
    kinds = sorted({kind for p in partitions for kind in p.kinds})
    if not any(kind.holds(need) for kind in kinds):
        there = "; ".join(
            f"{kind.cpus} CPUs, {kind.mem_gb:.3g} GB, {kind.gpus} GPUs" for kind in kinds
        )
        yield Finding(
            f"{key}: {processes} x cpus={asked.cpus}, mem_gb={asked.mem_gb:g} and"
            f" gpus_per_node={asked.gpus_per_node} fit no node of {names} ({there})"
        )


def _of_numbers(
    settings: dict[str, str], account: str | None, steps: list[Step]
) -> Iterator[Finding]:
    """Whether the queue takes so many jobs. Slurm counts every task of an array."""
    gates_and_rescue = sum(1 + len(step.stage.phases()) for step in steps)
    jobs = sum(phase.ranks for step in steps for phase in step.stage.phases()) + gates_and_rescue
    limits = {"MaxJobCount of the site": int(settings.get("MaxJobCount", jobs))}
    if "limits" in settings.get("AccountingStorageEnforce", ""):
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
    rows = facts.ask("sacctmgr", "-n", "-P", "show", "assoc", *who, "format=MaxSubmit") or ""
    limits = (int(row) if row.isdigit() else default for row in rows.splitlines())
    return max(limits, default=default)
