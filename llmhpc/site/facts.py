"""What a Slurm site has, asked of Slurm's own commands; every parser takes text, so it needs no Slurm."""

import re
import shutil
import subprocess
from collections import defaultdict
from dataclasses import dataclass

MB_PER_GB = 1024  # submitit writes --mem=2GB, which Slurm takes for 2048 MB
ANSWER_S = 20  # a slurmctld that takes longer does not answer
CONTAINER_PROGRAMS = ("apptainer", "singularity", "enroot")
OFF = "OFF"  # Slurm's word for a preempt mode that leaves jobs alone


@dataclass(frozen=True, order=True)
class Node:
    """What one kind of node has."""

    cpus: int
    mem_gb: float
    gpus: int

    def holds(self, other: "Node") -> bool:
        """True if this has as much of everything."""
        return self.cpus >= other.cpus and self.mem_gb >= other.mem_gb and self.gpus >= other.gpus


@dataclass(kw_only=True, slots=True)
class Partition:
    """One partition."""

    name: str
    default: bool
    up: bool
    max_time_min: int | None  # None: no limit
    nodes: int
    max_nodes: int  # of one job
    kinds: list[Node]  # each once
    takes: dict[str, list[str]]  # qos, account -> those that it takes; a key that is not there: any
    preempt_mode: str
    grace_time_s: int
    priority_tier: int

    @property
    def cpus(self) -> int:
        """The least that any of its nodes has; likewise mem_gb."""
        return min((node.cpus for node in self.kinds), default=0)

    @property
    def mem_gb(self) -> float:
        return round(min((node.mem_gb for node in self.kinds), default=0.0), 1)

    @property
    def gpus(self) -> int:
        """The most that any of its nodes has."""
        return max((node.gpus for node in self.kinds), default=0)


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


def ask_settings() -> dict[str, str] | None:
    """Key -> value of slurm.conf as the controller has it; None if none answers here."""
    text = ask("scontrol", "show", "config")
    return None if text is None else parse_settings(text)


def ask_partitions() -> list[Partition] | None:
    """Every partition with the kinds of its nodes, by two questions; None if the controller does not answer."""
    partitions = ask("scontrol", "show", "partition", "-o")
    nodes = ask("sinfo", "-h", "-e", "-o", "%R|%c|%m|%G")
    return None if partitions is None else parse_partitions(partitions, nodes or "")


def read_site(user: str) -> Site | None:
    """The site as ``user`` sees it; None if no slurmctld answers here."""
    settings = ask_settings() if shutil.which("sbatch") else None
    partitions = ask_partitions() if settings else None
    if settings is None or partitions is None:
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
        partitions=partitions,
        containers=["pyxis"] * ("--container-image" in (ask("srun", "--help") or ""))
        + [name for name in CONTAINER_PROGRAMS if shutil.which(name)],
        **of_settings(settings),  # type: ignore[arg-type]
    )


def parse_settings(text: str) -> dict[str, str]:
    """Key -> value of what ``scontrol show config`` prints."""
    return dict(re.findall(r"^(\w+) *= (.*?) *$", text, re.MULTILINE))


def of_settings(value: dict[str, str]) -> dict[str, object]:
    """The fields of Site that the settings of the controller tell."""
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
    kinds: dict[str, set[Node]] = defaultdict(set)
    for line in nodes.splitlines():
        name, cpus, mem_mb, gres = line.split("|")
        # "64+" where nodes differ; gpu:4, gpu:h100:4(S:0-1), several kinds behind commas
        gpus = sum(int(n) for n in re.findall(r"(?:^|,)gpu(?::[^:,(]+)?:(\d+)(?=[(,]|$)", gres))
        kinds[name].add(Node(int(cpus.rstrip("+")), int(mem_mb.rstrip("+")) / MB_PER_GB, gpus))
    found = []
    for line in text.splitlines():
        value = dict(word.split("=", 1) for word in line.split() if "=" in word)
        lists = {"qos": value.get("AllowQos", "ALL"), "account": value.get("AllowAccounts", "ALL")}
        total, most = int(value.get("TotalNodes", 0)), value.get("MaxNodes", "UNLIMITED")
        found.append(
            Partition(
                name=value["PartitionName"],
                default=value.get("Default") == "YES",
                up=value.get("State", "UP") == "UP",
                max_time_min=parse_time_min(value.get("MaxTime", "UNLIMITED")),
                nodes=total,
                max_nodes=int(most) if most.isdigit() else total,
                kinds=sorted(kinds[value["PartitionName"]]),
                takes={key: some.split(",") for key, some in lists.items() if some != "ALL"},
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
