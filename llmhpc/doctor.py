"""What a site has, and whether a root can be used there: python -m llmhpc.doctor [--root DIR] [--write NAME]."""

import argparse
import difflib
import getpass
import json
import os
import platform
import re
import shutil
import signal
import sys
from dataclasses import asdict
from importlib import resources
from pathlib import Path

from rich.console import Console
from rich.table import Table
from rich.text import Text

from llmhpc.errors import ConfigError
from llmhpc.site import root
from llmhpc.site.facts import Partition, Site, read_site
from llmhpc.site.root import NOTE, OK, PROBLEM, Check, check

STYLES = {OK: "green", NOTE: "yellow", PROBLEM: "bold red"}
USAGE = 2
PIPE_WIDTH = 160


def main(arguments: list[str]) -> int:
    """Exit status: 0, 1 if there is a problem, 2 if the call is wrong."""
    options = _options(arguments)
    # whatever stops us: the job is cancelled, its folder removed
    for number in (
        signal.SIGINT,
        signal.SIGTERM,
    ):  # a shell's background job starts with SIGINT ignored
        signal.signal(number, signal.default_int_handler)
    try:
        site = read_site(getpass.getuser())
        partition = _partition(site, options.partition)
        target = _target(site, options.write, options.conf_dir) if options.write else None
        with Console(stderr=True).status("trying this machine, then nodes; Ctrl-C stops"):
            checks = slurm_checks(site) + [_python()] + root.here(options.root)
            if site and PROBLEM not in {c.mark for c in checks}:
                checks += root.on_nodes(options.root, partition, options.account, options.wait)
    except ConfigError as error:
        print(f"llmhpc: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        print("llmhpc: stopped; nothing is left behind", file=sys.stderr)
        return 130
    if options.json:
        found = {"site": site and asdict(site), "checks": [asdict(c) for c in checks]}
        print(json.dumps(found, indent=1))
    else:
        _show(checks)
    problems = [c for c in checks if c.mark == PROBLEM]
    for c in problems:
        print(f"llmhpc: root={options.root}: {c.name}: {c.found}; {c.means}", file=sys.stderr)
    if site and target and not problems:
        target.write_text(cluster_yaml(site, partition, options.account, checks))
        print(f"{target} is written; use it as cluster={target.stem}", file=sys.stderr)
    return int(bool(problems))


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m llmhpc.doctor", description=__doc__)
    parser.add_argument("--root", type=Path, default=Path("runs"), help="the root of runs (runs)")
    parser.add_argument("--partition", help="where two nodes are asked for (the site's default)")
    parser.add_argument("--account", help="on whose account")
    parser.add_argument("--wait", type=int, default=300, metavar="S", help="for nodes (300)")
    parser.add_argument("--write", metavar="NAME", help="write conf/cluster/NAME.yaml")
    parser.add_argument("--conf-dir", type=Path, help="a conf/ other than the installed one")
    parser.add_argument("--json", action="store_true", help="machine-readable")
    return parser.parse_args(arguments)


def _partition(site: Site | None, name: str | None) -> Partition | None:
    if site is None:
        return None
    if name is None:
        return site.default_partition()
    names = [p.name for p in site.partitions]
    if name not in names:
        near = difflib.get_close_matches(name, names) or names
        raise ConfigError(f"--partition {name}: no such partition; nearest: {', '.join(near)}")
    return site.partitions[names.index(name)]


def _target(site: Site | None, name: str, conf: Path | None) -> Path:
    """The file to write. Raises ConfigError if the name is none or taken, or no Slurm stands behind it."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]*", name):
        raise ConfigError(f"--write {name!r}: letters, digits, _ and -")
    if site is None:
        raise ConfigError(f"--write {name}: no Slurm answers here; run it where sbatch works")
    folder = (conf or Path(str(resources.files("llmhpc.conf")))) / "cluster"
    if not folder.is_dir():
        raise ConfigError(f"--conf-dir {conf}: no folder cluster in it; the conf/ of a checkout")
    if not os.access(folder, os.W_OK):
        raise ConfigError(f"--write {name}: {folder} cannot be written; --conf-dir names another")
    if (target := folder / f"{name}.yaml").exists():
        raise ConfigError(f"--write {name}: {target} is there already; another name, or remove it")
    return target


def slurm_checks(site: Site | None) -> list[Check]:
    """What Slurm says of itself."""
    if site is None:
        why = "no slurmctld answers" if shutil.which("sbatch") else "there is no sbatch here"
        return [Check("Slurm", NOTE, why, "cluster=local runs on this machine; no nodes to try")]
    return [
        Check("Slurm", OK, site.version, "cluster=slurm submits here"),
        check("accounting", site.has_accounting, "sacct works" if site.has_accounting else "no sacct",
              "how a job ended is known afterwards, too", "how a job ended is told by its files and squeue only"),
        *(check(f"partition {p.name}", p.up, describe(p), "the default" if p.default else f"cluster.partition={p.name}",
                "takes no jobs now") for p in site.partitions),
        _preemption(site),
        check("requeue", site.requeues, f"JobRequeue={site.requeues:d}", "jobs of a node that fails start again",
              "export SBATCH_REQUEUE=1 before a launch, or cluster.links=3 for training"),
        Check("limits", OK, f"{site.max_array_size} tasks in an array, {site.max_job_count} jobs of all users",
              "longer arrays are split"),
        Check("containers", OK, ", ".join(site.containers) or "none", "not needed"),
    ]  # fmt: skip


def _python() -> Check:
    return check("Python", sys.prefix != sys.base_prefix, f"{platform.python_version()}, {sys.executable}",
                 "every node must see it", "of no virtual environment; make install makes .venv")  # fmt: skip


def describe(partition: Partition) -> str:
    """One line: nodes, what one has, the time limit."""
    gpus = f", {partition.gpus} GPUs" if partition.gpus else ""
    size = f"{partition.nodes} nodes of {partition.cpus} CPUs, {partition.mem_gb:g} GB{gpus}"
    limit = partition.max_time_min
    return f"{size}; {'no time limit' if limit is None else f'at most {limit} min'}"


def _preemption(site: Site) -> Check:
    """Who is preempted, and whether that is told ahead: with a grace time AND the site's option only."""
    if site.preempt_type == "qos":
        found = f"by QOS ({site.preempt_mode})"
        return Check("preemption", NOTE, found, "ask the site which QOS, and its grace time")
    them = site.preemptable()
    if not them:
        return Check("preemption", OK, "none", "a running job is left alone")
    told = site.sends_user_signal and all(p.grace_time_s for p in them)
    names = [f"{p.name} ({p.preempt_mode}, {p.grace_time_s} s grace)" for p in them]
    found = f"{', '.join(names)}, {'signal ahead' if told else 'no usable signal ahead'}"
    if not all("REQUEUE" in p.preempt_mode for p in them):
        return Check("preemption", NOTE, found, "not all are requeued: launch again, it goes on")
    return check("preemption", told, found, "a job can save, and is requeued",
                 "it is requeued, and goes on from its last checkpoint")  # fmt: skip


def cluster_yaml(
    site: Site, partition: Partition | None, account: str | None, checks: list[Check]
) -> str:
    """A starting conf/cluster/NAME.yaml: what is chosen, and in comments what else there is."""
    text = json.dumps  # a JSON string is a YAML string, whatever a site calls its partitions
    others = [p for p in site.partitions if p is not partition]
    accounts = [name for name in site.accounts if name != account]
    telling = [c for c in checks if c.mark == NOTE or c.name in ("preemption", "containers")]
    lines = [f"# Slurm {site.version}, as python -m llmhpc.doctor found it.", "executor: slurm"]
    lines += [f"partition: {text(partition.name)}  # {describe(partition)}"] if partition else []
    lines += [f"# partition: {text(p.name)}  # {describe(p)}" for p in others]
    lines += [f"account: {text(account)}"] if account else []
    lines += [f"# account: {text(name)}" for name in accounts]
    lines += [f"# qos: {text(name)}" for name in site.qos]
    lines += ["environment:", f"  python: {text(sys.executable)}"]
    lines += [f"# {c.name}: {c.found}: {c.means}" for c in telling]
    return "\n".join(lines) + "\n"


def _show(checks: list[Check]) -> None:
    console = Console(
        highlight=False, markup=False, width=None if sys.stdout.isatty() else PIPE_WIDTH
    )
    table = Table(box=None, pad_edge=False)
    for title in ("check", "", "found", "what it means"):
        table.add_column(title, overflow="fold")
    for c in checks:
        table.add_row(c.name, Text(c.mark, STYLES[c.mark]), c.found, c.means)
    console.print(table)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
