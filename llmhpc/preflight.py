"""Everything that can be known to be wrong before anything is written, all of it at once, a line for each."""

import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from llmhpc.config import Config, Executor, Finding, Footprint
from llmhpc.errors import ConfigError
from llmhpc.files import read_json
from llmhpc.handoff import artifact, ledger
from llmhpc.planning.plan import Step
from llmhpc.site import limits

FILES_PER_TASK = 6  # mark, attempt, logs of submitit: 5 to 8 in finished runs


def check(cfg: Config, steps: list[Step]) -> list[Finding]:
    """What is wrong with a planned run; empty if nothing is. Writes nothing but a file that is gone at once."""
    todo = [step for step in steps if not artifact.sealed(step.out)]
    on_slurm = cfg.cluster.executor is Executor.slurm
    machine_gb = None if on_slurm else _machine_gb()
    findings = [finding for step in todo for finding in _of_step(cfg, step, machine_gb)]
    findings += _of_root(cfg, steps)
    if todo and (why := ledger.overdrawn(cfg.cluster.budget, [step.out for step in steps])):
        findings.append(Finding(why))
    if not on_slurm:
        findings += _of_one_machine(cfg, steps)
    elif shutil.which("sbatch") or not cfg.dry_run:  # a plan can be looked at anywhere
        findings += limits.check(cfg.cluster, todo)
    return findings


def footprint(steps: list[Step]) -> Footprint:
    """What steps that are not sealed will write, each from what its inputs have or will have written."""
    sizes: dict[Path, int] = {}
    files = 0
    for step in steps:
        if manifest := read_json(step.out / artifact.MANIFEST):
            sizes[step.out] = sum(file["bytes"] for file in manifest.get("files", {}).values())
    total = 0
    for step in steps:
        if step.out in sizes:
            continue
        inputs = set(step.inputs.values())
        size, count = step.stage.will_write(sum(sizes.get(path, 0) for path in inputs))
        sizes[step.out] = size
        total += size
        files += count + FILES_PER_TASK * sum(phase.ranks for phase in step.stage.phases())
    return Footprint(total, files)


def _of_step(cfg: Config, step: Step, machine_gb: float | None) -> Iterator[Finding]:
    try:
        step.stage.before_launch()
    except ConfigError as error:
        yield Finding(f"stages.{step.name}.{error}")
    for finding in step.stage.foresee(step.inputs, step.out, machine_gb=machine_gb):
        yield Finding(f"stages.{step.name}.{finding.message}", finding.estimate)
    played_by = {role: cfg.stages[need] for role, need in step.stage.needs.items()}
    yield from _of_memory(step, *step.stage.memory_gb(played_by), machine_gb)


def _of_memory(step: Step, node: float, gpu: float, machine_gb: float | None) -> Iterator[Finding]:
    """Whether what a task is known to take is there."""
    resources = step.stage.resources
    there = resources.mem_gb if machine_gb is None else machine_gb
    key = f"stages.{step.name}.resources"
    takes = "a task takes about {:.1f} GB"
    if node > there and machine_gb is None:
        wanted = f"{takes.format(node)}; {math.ceil(node)}"
        yield Finding(f"{key}.mem_gb={there:g}: {wanted}", estimate=True)
    elif node > there:
        has = f"{takes.format(node)}, this machine has {there:.0f}; a smaller model"
        yield Finding(f"{key}: {has}", estimate=True)
    if gpu > resources.gpu_mem_gb:
        wanted = f"{takes.format(gpu)} of a GPU; a larger one, or more processes to a model"
        yield Finding(f"{key}.gpu_mem_gb={resources.gpu_mem_gb:g}: {wanted}", estimate=True)


def _of_root(cfg: Config, steps: list[Step]) -> Iterator[Finding]:
    """Whether artifacts can be written below the root, and whether they fit. Quotas are not seen."""
    there = Path(cfg.root).absolute()
    while not there.exists():
        there = there.parent
    if not there.is_dir():
        yield Finding(f"root={cfg.root}: {there} is a file; a folder that every node sees")
        return
    try:
        with tempfile.TemporaryFile(dir=there):
            pass
    except OSError as error:
        yield Finding(
            f"root={cfg.root}: {there} cannot be written ({error.strerror}); a folder that every node sees"
        )
        return
    disk, need = os.statvfs(there), footprint(steps)
    free = disk.f_bavail * disk.f_frsize
    if need.bytes > free:
        yield Finding(
            f"root={cfg.root}: {free / 1e9:,.1f} GB are free there, the steps will write about"
            f" {need.bytes / 1e9:,.1f} GB; another root, or fewer checkpoints",
            estimate=True,
        )
    if disk.f_files and need.files > disk.f_favail:  # some file systems do not count files
        yield Finding(
            f"root={cfg.root}: {disk.f_favail:,} more files fit there, the steps will write about"
            f" {need.files:,}; another root, or fewer ranks and checkpoints",
            estimate=True,
        )


def _of_one_machine(cfg: Config, steps: list[Step]) -> Iterator[Finding]:
    """Whether every step can run on a single machine."""
    executor = cfg.cluster.executor
    for step in steps:
        processes, nodes = step.stage.processes(), step.stage.resources.nodes
        if nodes > 1:
            yield Finding(
                f"stages.{step.name}.resources.nodes={nodes}: 1 on cluster.executor={executor.name}"
            )
        if executor is Executor.debug and processes > 1:
            yield Finding(
                f"cluster.executor=debug: stages.{step.name} is made of {processes} processes and debug"
                " is one; local or slurm"
            )


def _machine_gb() -> float:
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9
