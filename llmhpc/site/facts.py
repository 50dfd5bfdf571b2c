"""What a Slurm site has, asked of Slurm's own commands; every parser takes text, so it needs no Slurm."""

import re
import shutil
import subprocess
from dataclasses import dataclass

ANSWER_S = 20  # a slurmctld that takes longer does not answer
CONTAINER_PROGRAMS = ("apptainer", "singularity", "enroot")
OFF = "OFF"  # Slurm's word for a preempt mode that leaves jobs alone


@dataclass(kw_only=True, slots=True)
class Partition:
    """One partition; what it has of a node is the least that any of its nodes has, GPUs the most."""

    name: str
    default: bool
    up: bool
    max_time_min: int | None  # None: no limit
    nodes: int
    cpus: int
    mem_gb: float
    gpus: int
    preempt_mode: str
    grace_time_s: int
    priority_tier: int


@dataclass(kw_only=True, slots=True)
class Site:
    """The settings of a Slurm that a launcher adapts to."""

    version: str
    has_accounting: bool
    accounts: list[str]  # this user's; empty where there is no accounting
    qos: list[str]
    partitions: list[Partition]
    preempt_type: str  # none, partition_prio or qos
    preempt_mode: str  # of the cluster; a partition or QOS can have its own
    sends_user_signal: (
        bool  # a preempted job gets the signal of its --signal as the grace time begins
    )
    requeues: bool  # JobRequeue: a job that asks for nothing is requeued
    max_array_size: int
    max_job_count: int
    containers: list[str]  # pyxis (srun --container-image) and programs that are here

    def default_partition(self) -> Partition | None:
        """The partition of jobs that name none."""
        return next((p for p in self.partitions if p.default), None)

    def preemptable(self) -> list[Partition]:
        """The partitions whose jobs one of a higher tier may preempt."""
        if self.preempt_type != "partition_prio" or self.preempt_mode == OFF:
            return []
        top = max((p.priority_tier for p in self.partitions), default=0)
        return [p for p in self.partitions if p.preempt_mode != OFF and p.priority_tier < top]


def ask(*command: str) -> str | None:
    """What a command printed; None if there is none, it failed or did not answer in time."""
    try:
        call = subprocess.run(
            command, check=False, capture_output=True, text=True, timeout=ANSWER_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if call.returncode else call.stdout


def read_site(user: str) -> Site | None:
    """The site as ``user`` sees it; None if no slurmctld answers here."""
    config, partitions = (
        ask("scontrol", "show", "config"),
        ask("scontrol", "show", "partition", "-o"),
    )
    if not shutil.which("sbatch") or config is None or partitions is None:
        return None
    has_accounting = ask("sacct", "--noheader", "--allocations") is not None
    associations = (
        ask("sacctmgr", "-nP", "show", "assoc", f"user={user}", "format=account,qos")
        if has_accounting
        else None
    )
    accounts, qos = parse_associations(associations or "")
    return Site(
        has_accounting=has_accounting,
        accounts=accounts,
        qos=qos,
        partitions=parse_partitions(
            partitions, ask("sinfo", "-h", "-e", "-o", "%R|%c|%m|%G") or ""
        ),
        containers=["pyxis"] * ("--container-image" in (ask("srun", "--help") or ""))
        + [name for name in CONTAINER_PROGRAMS if shutil.which(name)],
        **parse_config(config),  # type: ignore[arg-type]
    )


def parse_config(text: str) -> dict[str, object]:
    """The fields of Site that ``scontrol show config`` tells."""
    value = dict(re.findall(r"^(\w+) *= (.*?) *$", text, re.MULTILINE))
    # it was an option of slurmctld before it became one of preemption
    parameters = value.get("PreemptParameters", "") + "," + value.get("SlurmctldParameters", "")
    return {
        "version": value.get("SLURM_VERSION", "unknown"),
        "preempt_type": value.get("PreemptType", "none").removeprefix("preempt/"),
        "preempt_mode": value.get("PreemptMode", OFF),
        "sends_user_signal": "send_user_signal" in parameters,
        "requeues": value.get("JobRequeue", "1") == "1",
        "max_array_size": int(value.get("MaxArraySize", 1001)),
        "max_job_count": int(value.get("MaxJobCount", 10000)),
    }


def parse_partitions(text: str, nodes: str) -> list[Partition]:
    """Of ``scontrol show partition -o`` and, for what one node has, ``sinfo -o "%R|%c|%m|%G"``."""
    per_node: dict[str, list[tuple[int, int, int]]] = {}
    for line in nodes.splitlines():
        name, cpus, mem_mb, gres = line.split("|")
        # "64+" where nodes differ; gpu:4, gpu:h100:4(S:0-1), several kinds behind commas
        gpus = sum(int(n) for n in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)(?=[(,]|$)", gres))
        per_node.setdefault(name, []).append((int(cpus.rstrip("+")), int(mem_mb.rstrip("+")), gpus))
    found = []
    for line in text.splitlines():
        value = dict(word.split("=", 1) for word in line.split() if "=" in word)
        kinds = per_node.get(value["PartitionName"], [(0, 0, 0)])
        found.append(
            Partition(
                name=value["PartitionName"],
                default=value.get("Default") == "YES",
                up=value.get("State", "UP") == "UP",
                max_time_min=parse_time_min(value.get("MaxTime", "UNLIMITED")),
                nodes=int(value.get("TotalNodes", 0)),
                cpus=min(cpus for cpus, _, _ in kinds),
                mem_gb=round(min(mem for _, mem, _ in kinds) / 1024, 1),
                gpus=max(gpus for _, _, gpus in kinds),
                preempt_mode=value.get("PreemptMode", OFF),
                grace_time_s=int(value.get("GraceTime", 0)),
                priority_tier=int(value.get("PriorityTier", 1)),
            )
        )
    return found


def parse_time_min(text: str) -> int | None:
    """Minutes of Slurm's [days-]hours:minutes:seconds; None for UNLIMITED."""
    if not (found := re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", text)):
        return None
    days, hours, minutes, _ = (int(part or 0) for part in found.groups())
    return (days * 24 + hours) * 60 + minutes


def parse_associations(text: str) -> tuple[list[str], list[str]]:
    """Accounts and QOS of ``sacctmgr -nP show assoc format=account,qos``, each once, in order."""
    rows = [line.split("|") for line in text.splitlines() if "|" in line]
    qos = (name for row in rows for name in row[1].split(","))
    return list(dict.fromkeys(row[0] for row in rows)), list(dict.fromkeys(filter(None, qos)))
