"""Whether a folder can be the root of runs: two processes try what llmhpc relies on, here and on two nodes."""

import contextlib
import getpass
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhpc.site.facts import Partition, ask
from llmhpc.site.probe import NEW_FILES

OK, NOTE, PROBLEM = "ok", "note", "problem"
HERE_S = 300
JOB_MIN = 15
LITTLE_GB, FEW_FILES = 10, 100_000
SLOW_MS = 1000
SHARED = (
    "nfs", "lustre", "gpfs", "beegfs", "ceph", "wekafs", "panfs", "gfs2", "ocfs2", "afs", "9p", "virtiofs", "cifs", "fuse.",
)  # fmt: skip


@dataclass(slots=True)
class Check:
    """What was looked at; ok, note or problem; what was found; what it means for a user."""

    name: str
    mark: str
    found: str
    means: str


def check(
    name: str, good: object, found: str, means: str, otherwise: str, mark: str = NOTE
) -> Check:
    """ok with what it ``means``, else ``mark`` with the ``otherwise``."""
    return Check(name, OK, found, means) if good else Check(name, mark, found, otherwise)


def here(root: Path) -> list[Check]:
    """The root as this machine sees it."""
    there = _existing(root)
    kind = filesystem(there)
    space_gb, files = shutil.disk_usage(there).free / 1e9, os.statvfs(there)
    roomy = space_gb >= LITTLE_GB and (files.f_favail >= FEW_FILES or not files.f_files)
    checks = [
        check("root", kind.startswith(SHARED), f"{there} on {kind}", "a shared filesystem",
              "of one machine by its type; every node must see it"),
        check("space", roomy, f"{space_gb:,.0f} GB, {files.f_favail:,} files free", "room to begin",
              "little for a run of real size"),
    ]  # fmt: skip
    try:
        with _probed(there) as command:
            out, _ = _run(command, HERE_S)
    except subprocess.TimeoutExpired:
        out = ""
    except OSError as error:
        return [*checks, Check("writing", PROBLEM, f"{there} cannot be written ({error.strerror})",
                               "a folder that every node sees and you may write")]  # fmt: skip
    return checks + judge(_reports(out), "here")


def on_nodes(
    root: Path, partition: Partition | None, account: str | None, wait_s: int
) -> list[Check]:
    """The same from two nodes, or from one where the partition has one. The job is gone afterwards."""
    nodes = min(2, partition.nodes) if partition else 2
    limit = partition.max_time_min if partition and partition.max_time_min else JOB_MIN
    name = f"llmhpc-doctor-{uuid.uuid4().hex[:8]}"
    srun = ["srun", f"--job-name={name}", f"--nodes={nodes}", f"--time={min(limit, JOB_MIN)}"]
    srun += [
        "--ntasks=2",
        "--overcommit",
        "--mem=1G",
        "--kill-on-bad-exit=1",
        "--chdir=/",
        "--input=none",
    ]
    srun += [f"--partition={partition.name}"] if partition else []
    srun += [f"--account={account}"] if account else []
    try:
        with _probed(_existing(root)) as command:
            out, err = _run([*srun, *command], wait_s)
    except subprocess.TimeoutExpired:
        why = (ask("squeue", "--noheader", f"--name={name}", "--format=%r") or "").strip()
        return [Check("nodes", NOTE, f"no answer of {nodes} nodes in {wait_s} s ({why})",
                      "not tried: a longer --wait, or another --partition")]  # fmt: skip
    finally:
        ask("scancel", f"--name={name}", f"--user={getpass.getuser()}")
    if not (reports := _reports(out)):
        return [_no_report(err.splitlines())]
    checks = judge(reports, "nodes")
    if len(reports) < 2:
        return checks
    hosts = sorted({report["host"] for report in reports})
    lacks = ", ".join(sorted({name for report in reports for name in report["lacks"]}))
    return [
        check("nodes", len(hosts) > 1, f"{', '.join(hosts)}; Python {reports[0]['python']}", "llmhpc starts there",
              "one node only: what two see of each other is not known"),
        check("commands", not lacks, f"no {lacks} on nodes" if lacks else "scontrol, sbatch, squeue on nodes",
              "training that is cut requeues itself", "training that is cut cannot requeue itself: cluster.links=3"),
        *checks,
    ]  # fmt: skip


def _no_report(lines: list[str]) -> Check:
    """Why nothing came back: Slurm did not take the job, or this Python does not start there."""
    telling = [line for line in lines if "rror" in line and ": task " not in line]
    why = (telling or lines or ["srun said nothing"])[0].removeprefix("srun: error: ")
    if any("Unable to allocate" in line for line in lines):
        return Check("nodes", NOTE, why, "not tried: another --partition, or an --account")
    return Check(
        "nodes", PROBLEM, why, "every node must see this Python and what is installed for it"
    )


def judge(reports: list[dict[str, Any]], where: str) -> list[Check]:
    """What two probes saw: renames, exclusion, and how long a new file takes to be seen."""
    errors = [f"{report['host']}: {report['error']}" for report in reports if report["error"]]
    checks = []
    if reports and "half" in (reader := reports[-1]):
        half, none, reads = reader["half"], reader["missing"], reader["reads"]
        found = f"of {reads:,} reads {half:,} saw half a file, {none:,} none"
        checks = [
            check(f"rename, {where}", not (half or none), found, "nobody takes half a file for a whole one",
                  "rename is not atomic there: choose another filesystem", PROBLEM)
        ]  # fmt: skip
        if reader["stale"]:
            checks.append(Check(f"stale, {where}", NOTE, f"{reader['stale']} reads met a stale handle (NFS)",
                                "a task may fail for it: the same launch goes on"))  # fmt: skip
    if errors or len(reports) < 2:
        return [*checks, Check(f"root, {where}", PROBLEM, "; ".join(errors) or "a probe ended without a word",
                               "every node must see the root and may write there")]  # fmt: skip
    writer, reader = reports
    made, delays = writer["made"] + reader["made"], writer["delays_ms"]
    alone = made == NEW_FILES and reader["lock"] == "excluded"
    spread = "/".join(f"{f(delays):.1f}" for f in (min, statistics.median, max))
    return [
        *checks,
        check(f"exclusion, {where}", alone, f"{made} of {NEW_FILES} files made by one alone; flock: {reader['lock']}",
              "two launches at once do the work once", "two launches at once would do the work twice", PROBLEM),
        check(f"delay, {where}", max(delays) < SLOW_MS, f"{spread} ms (min/median/max) until a new file is seen",
              "gates do not wait for files", "gates wait that long for files"),
    ]  # fmt: skip


def filesystem(path: Path) -> str:
    """The type of the filesystem a path is on: of its deepest mount, the latest of several."""
    deepest, kind = -1, "an unknown filesystem"
    for line in Path("/proc/self/mounts").read_text().splitlines():
        mount, name = line.split()[1:3]
        mount = mount.replace("\\040", " ")
        if path.resolve().is_relative_to(mount) and len(mount) >= deepest:
            deepest, kind = len(mount), name
    return kind


def _existing(root: Path) -> Path:
    there = root.absolute()
    while not there.exists():
        there = there.parent
    return there


@contextlib.contextmanager
def _probed(there: Path) -> Iterator[list[str]]:
    """The command that probes a new folder in there, which is removed afterwards. Raises OSError."""
    with tempfile.TemporaryDirectory(
        prefix=".doctor-", dir=there, ignore_cleanup_errors=True
    ) as folder:
        yield [sys.executable, "-m", "llmhpc.site.probe", folder]


def _run(command: list[str], timeout_s: int) -> tuple[str, str]:
    """stdout and stderr; whatever ends the wait ends the command. Raises TimeoutExpired."""
    inside = "SLURM_JOB_ID" in os.environ  # then srun would only make a step of that job
    kept = os.environ.items()
    env = {k: v for k, v in kept if k == "SLURM_CONF" or not (inside and k.startswith("SLURM_"))}
    pipe = subprocess.PIPE  # a session of its own, for srun takes a first Ctrl-C for a question
    process = subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, env=env, start_new_session=True
    )
    try:
        return process.communicate(timeout=timeout_s)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait()


def _reports(text: str) -> list[dict[str, Any]]:
    """What the probes printed between whatever else a site prints, by rank."""
    found = [json.loads(line) for line in text.splitlines() if line.startswith('{"rank"')]
    return sorted(found, key=lambda report: report["rank"])
