"""The doctor without a Slurm: its parsers on real texts, its probe on real files and on a rename that is not atomic."""

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from llmhpc.doctor import cluster_yaml, slurm_checks
from llmhpc.site.facts import (
    Site,
    of_settings,
    parse_associations,
    parse_partitions,
    parse_settings,
    parse_time_min,
)
from llmhpc.site.probe import LAST, block, read_while_renamed
from llmhpc.site.root import PROBLEM, filesystem, judge

RENAME_IN_PLACE = Path(__file__).parent / "rename_in_place.c"
CONFIG_22 = """\
Configuration data as of 2026-11-24T05:37:11
AccountingStorageType   = accounting_storage/none
JobRequeue              = 1
MaxArraySize            = 20001
MaxJobCount             = 50000
PreemptMode             = REQUEUE
PreemptType             = preempt/partition_prio
PreemptExemptTime       = 00:00:00
SlurmctldParameters     = preempt_send_user_signal
SLURM_CONF              = /run/devcluster/etc/slurm.conf
SLURM_VERSION           = 22.05.8

Slurmctld(primary) at login is UP
"""
PARTITIONS_22 = """\
PartitionName=cpu AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=YES QoS=N/A DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=127.0.0.[1-2] PriorityJobFactor=1 PriorityTier=10 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=4 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=4,mem=8000M,node=2,billing=4
PartitionName=high AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=0 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=127.0.0.[1-2] PriorityJobFactor=1 PriorityTier=20 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=OFF State=UP TotalCPUs=4 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=4,mem=8000M,node=2,billing=4
PartitionName=low AllowGroups=ALL AllowAccounts=ALL AllowQos=ALL AllocNodes=ALL Default=NO QoS=N/A DefaultTime=NONE DisableRootJobs=NO ExclusiveUser=NO GraceTime=20 Hidden=NO MaxNodes=UNLIMITED MaxTime=1-00:00:00 MinNodes=0 LLN=NO MaxCPUsPerNode=UNLIMITED Nodes=127.0.0.[1-2] PriorityJobFactor=1 PriorityTier=1 RootOnly=NO ReqResv=NO OverSubscribe=NO OverTimeLimit=NONE PreemptMode=REQUEUE State=UP TotalCPUs=4 TotalNodes=2 SelectTypeParameters=NONE JobDefaults=(null) DefMemPerNode=UNLIMITED MaxMemPerNode=UNLIMITED TRES=cpu=4,mem=8000M,node=2,billing=4
"""
SINFO_22 = "cpu|2|4000|gpu:fake:2\nhigh|2|4000|gpu:fake:2\nlow|2|4000|gpu:fake:2\n"

# made by hand after the manual of 24.05: the option for the signal is one of preemption, nodes differ
CONFIG_24 = """\
JobRequeue              = 0
MaxArraySize            = 1001
MaxJobCount             = 10000
PreemptMode             = GANG,SUSPEND
PreemptParameters       = youngest_first,send_user_signal
PreemptType             = preempt/partition_prio
SlurmctldParameters     = enable_configless
SLURM_VERSION           = 24.05.2
"""
PARTITIONS_24 = """\
PartitionName=gpu-h100 AllowGroups=ALL Default=NO ExclusiveTopo=NO GraceTime=120 MaxTime=UNLIMITED MaxCPUsPerSocket=UNLIMITED Nodes=g[01-08,11] PriorityTier=1 PreemptMode=GANG,SUSPEND State=DRAIN TotalCPUs=864 TotalNodes=9 TRES=cpu=864,mem=18T,node=9,billing=864,gres/gpu=72,gres/gpu:h100=72 TRESBillingWeights=CPU=1.0,Mem=0.25G
PartitionName=debug AllowGroups=ALL Default=NO GraceTime=0 MaxTime=00:30:00 Nodes=c1 PriorityTier=2 PreemptMode=OFF State=UP TotalCPUs=64 TotalNodes=1
"""
SINFO_24 = "gpu-h100|96+|2000000|gpu:h100:8(S:0-1),shard:h100:32(S:0-1)\ngpu-h100|48|1000000|gpu:4\ndebug|64|256000|(null)\n"


def site(config: str, partitions: str, sinfo: str, **changes) -> Site:
    found = {"has_accounting": False, "accounts": [], "qos": [], "containers": []}
    found["partitions"] = parse_partitions(partitions, sinfo)
    return Site(**(found | of_settings(parse_settings(config)) | changes))


def doctor(*words: str | Path, path: str = "/nowhere", **environment: str):
    """Exit status, stdout, stderr; by default where no Slurm is found."""
    command = [sys.executable, "-m", "llmhpc.doctor", *words]
    env = os.environ | {"PATH": path} | environment
    return subprocess.run(
        command, check=False, capture_output=True, text=True, env=env, timeout=300
    )


def test_slurm_22_05_is_read():
    found = site(CONFIG_22, PARTITIONS_22, SINFO_22)
    assert (found.version, found.max_array_size, found.max_job_count) == ("22.05.8", 20001, 50000)
    assert found.sends_user_signal
    assert found.requeues
    assert [p.name for p in found.partitions] == ["cpu", "high", "low"]
    cpu = found.default_partition()
    assert (cpu.name, cpu.nodes, cpu.cpus, cpu.mem_gb, cpu.gpus) == ("cpu", 2, 2, 3.9, 2)
    assert (cpu.max_time_min, cpu.preempt_mode, cpu.priority_tier) == (1440, "OFF", 10)
    (low,) = found.preemptable()
    assert (low.name, low.preempt_mode, low.grace_time_s) == ("low", "REQUEUE", 20)


def test_a_newer_slurm_with_mixed_nodes_is_read():
    found = site(CONFIG_24, PARTITIONS_24, SINFO_24)
    assert (found.version, found.sends_user_signal, found.requeues) == ("24.05.2", True, False)
    assert found.default_partition() is None
    gpu, debug = found.partitions
    assert (gpu.nodes, gpu.cpus, gpu.gpus, gpu.up, gpu.max_time_min) == (9, 48, 8, False, None)
    assert (debug.gpus, debug.up, debug.max_time_min) == (0, True, 30)
    assert found.preemptable() == [gpu]


@pytest.mark.parametrize(
    ("text", "minutes"),
    [("UNLIMITED", None), ("7-12:00:00", 10800), ("01:30:00", 90), ("00:00:30", 0)],
)
def test_a_time_limit_is_read(text, minutes):
    assert parse_time_min(text) == minutes


def test_accounts_and_qos_are_named_once():
    assert parse_associations("nlp|normal,high\nnlp|high\nvision|\n") == (
        ["nlp", "vision"],
        ["normal", "high"],
    )


@pytest.mark.parametrize(
    ("changes", "mark", "words"),
    [
        ({}, "ok", "low (REQUEUE, 20 s grace), signal ahead"),
        ({"sends_user_signal": False}, "note", "no usable signal ahead"),
        ({"preempt_type": "none"}, "ok", "none"),
        ({"preempt_mode": "OFF"}, "ok", "none"),
        ({"preempt_type": "qos"}, "note", "by QOS"),
    ],
)
def test_preemption_is_told_as_it_is(changes, mark, words):
    checks = slurm_checks(site(CONFIG_22, PARTITIONS_22, SINFO_22, **changes))
    (found,) = (c for c in checks if c.name == "preemption")
    assert found.mark == mark
    assert words in found.found


def test_the_written_file_is_yaml_whatever_a_partition_is_called():
    from omegaconf import OmegaConf

    found = site(CONFIG_22, PARTITIONS_22.replace("=cpu ", "=on "), SINFO_22, accounts=["nlp"])
    text = cluster_yaml(found, found.default_partition(), "me", slurm_checks(found))
    written = OmegaConf.create(text)
    assert written == {
        "executor": "slurm",
        "partition": "on",
        "account": "me",
        "environment": {"python": sys.executable},
    }
    assert '# account: "nlp"\n' in text
    assert '# partition: "low"' in text
    assert "# preemption: low (REQUEUE, 20 s grace), signal ahead" in text


def test_without_slurm_the_machine_is_looked_at_and_nothing_is_left(tmp_path):
    done = doctor("--root", tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    marks = {check["name"]: check["mark"] for check in found["checks"]}
    assert found["site"] is None
    assert marks["Slurm"] == "note"
    assert {marks[name] for name in ("Python", "rename, here", "exclusion, here")} == {"ok"}
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--write", "../evil"], "--write '../evil': letters, digits, _ and -"),
        (["--write", "here"], "--write here: no Slurm answers here"),
    ],
)
def test_a_wrong_call_is_one_line(tmp_path, words, message):
    done = doctor("--root", tmp_path, *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"llmhpc: {message}")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("root", ["/proc/nothing", "/etc/passwd/runs"])
def test_a_root_that_cannot_be_written_is_a_problem(root):
    done = doctor("--root", root)
    assert done.returncode == 1
    assert f"llmhpc: root={root}: writing: " in done.stderr
    assert done.stderr.count("\n") == 1


def test_a_reader_tells_a_writer_in_place_from_one_that_renames(tmp_path):
    file = tmp_path / "versions"

    def write_in_place():
        for version in [*range(1, 200), LAST]:
            with file.open("wb", buffering=0) as out:
                for half in (block(version)[:20_000], block(version)[20_000:]):
                    out.write(half)
                    time.sleep(0.001)

    file.write_bytes(block(1))
    writer = threading.Thread(target=write_in_place)
    writer.start()
    seen = read_while_renamed(file)
    writer.join()
    assert seen["half"] > 0
    (found,) = (c for c in judge([{"rank": 1, "error": "", **seen}], "here") if "rename" in c.name)
    assert found.mark == PROBLEM


WRITER = {"rank": 0, "host": "a", "error": "", "renames": 9, "delays_ms": [1.0, 2.0], "made": 20}
READER = {"rank": 1, "host": "b", "error": "", "reads": 99, "half": 0, "missing": 0, "stale": 0}
READER |= {"made": 30, "lock": "excluded"}


@pytest.mark.parametrize(
    ("writer", "reader", "name", "mark"),
    [
        ({}, {}, "", "ok"),
        ({}, {"missing": 1}, "rename, nodes", "problem"),
        ({}, {"stale": 1}, "stale, nodes", "note"),
        ({"made": 21}, {}, "exclusion, nodes", "problem"),
        ({}, {"lock": "not excluded"}, "exclusion, nodes", "problem"),
        ({}, {"lock": "No locks available"}, "exclusion, nodes", "problem"),
        ({"delays_ms": [1.0, 30000.0]}, {}, "delay, nodes", "note"),
        ({}, {"error": "Input/output error"}, "root, nodes", "problem"),
    ],
)
def test_what_two_nodes_saw_is_judged(writer, reader, name, mark):
    checks = judge([WRITER | writer, READER | reader], "nodes")
    not_ok = {check.name: check.mark for check in checks if check.mark != "ok"}
    assert not_ok == ({name: mark} if name else {})


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_a_root_without_atomic_rename_is_refused(tmp_path):
    library = tmp_path / "rename.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-o", library, RENAME_IN_PLACE], check=True)
    root = tmp_path / "runs"
    root.mkdir()
    done = doctor("--root", root, LD_PRELOAD=str(library))
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"llmhpc: root={root}: rename, here: of ")
    assert line.endswith("rename is not atomic there: choose another filesystem")
    assert list(root.iterdir()) == []


def test_the_filesystem_is_that_of_the_deepest_mount():
    assert filesystem(Path("/proc/self/status")) == "proc"
    assert filesystem(Path("/")) != "proc"
