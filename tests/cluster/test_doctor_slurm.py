"""The doctor on a real Slurm of two nodes: what it finds, what it writes, what it leaves behind."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DEVCLUSTER = ROOT / "sbatch" / "devcluster"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NEEDED = ("slurmctld", "slurmd", "sbatch", "munged")
RENAME_IN_PLACE = ROOT / "tests" / "rename_in_place.c"
DOCTOR = [sys.executable, "-m", "llmhpc.doctor"]

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        any(shutil.which(program, path=PATH) is None for program in NEEDED),
        reason="no Slurm: apt-get install slurmctld slurmd slurm-client munge",
    ),
]


@pytest.fixture(scope="module")
def slurm():
    """The environment of a shell that uses a cluster of two nodes with two GPUs each; partition one has one."""
    room = Path(tempfile.mkdtemp(dir="/tmp", prefix="dc"))
    words = ["up", "--dir", room, "--nodes", "2", "--gpus", "2"]
    words += ["--set", "PartitionName=one Nodes=127.0.0.1 MaxTime=5"]
    try:
        subprocess.run([DEVCLUSTER, *words], check=True, timeout=300)
        line = subprocess.check_output([DEVCLUSTER, "env", "--dir", room], text=True)
        name, _, value = line.strip().removeprefix("export ").partition("=")
        yield os.environ | {name: value.strip("'\"")}
    finally:
        subprocess.run([DEVCLUSTER, "down", "--wipe", "--dir", room], check=True, timeout=120)


def doctor(environment: dict, root: Path, *words: str | Path) -> subprocess.CompletedProcess:
    command = [*DOCTOR, "--root", root, *words]
    options = {"capture_output": True, "text": True, "timeout": 300}
    return subprocess.run(command, check=False, env=environment, **options)


def queue(environment: dict) -> str:
    command = ["squeue", "--noheader", "--format=%j", "--states=PD,R"]
    return subprocess.check_output(command, env=environment, text=True)


def test_the_site_and_two_nodes_are_found(slurm, tmp_path):
    done = doctor(slurm, tmp_path / "runs", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    site, checks = found["site"], {check["name"]: check for check in found["checks"]}
    partitions = [
        (p["name"], p["default"], p["nodes"], p["kinds"][0]["gpus"]) for p in site["partitions"]
    ]
    assert partitions == [
        ("cpu", True, 2, 2), ("high", False, 2, 2), ("low", False, 2, 2), ("one", False, 1, 2),
    ]  # fmt: skip
    assert (site["has_accounting"], site["sends_user_signal"]) == (False, True)
    assert checks["accounting"]["mark"] == "note"
    assert "signal ahead" in checks["preemption"]["found"]
    assert "127.0.0.1, 127.0.0.2" in checks["nodes"]["found"]
    for name in ("nodes", "commands", "rename, nodes", "exclusion, nodes", "delay, nodes"):
        assert checks[name]["mark"] == "ok", checks[name]
    assert list(tmp_path.iterdir()) == []
    assert queue(slurm) == ""


def test_the_written_cluster_plans_and_is_not_written_over(slurm, tmp_path):
    name = f"doctor_{os.getpid()}"
    file = ROOT / "conf" / "cluster" / f"{name}.yaml"
    try:
        done = doctor(slurm, tmp_path, "--write", name, "--partition", "high")
        assert done.returncode == 0, done.stderr
        assert 'partition: "high"' in file.read_text().splitlines()[2]
        launch = [sys.executable, "-m", "llmhpc.launch", f"cluster={name}", "dry_run=true"]
        plan = subprocess.check_output([*launch, f"root={tmp_path}"], text=True, env=slurm)
        assert "steps to run" in plan
        again = doctor(slurm, tmp_path, "--write", name)
        assert again.returncode == 2
        assert f"{file} is there already" in again.stderr
    finally:
        file.unlink(missing_ok=True)


def test_a_partition_that_is_none_is_one_line(slurm, tmp_path):
    done = doctor(slurm, tmp_path, "--partition", "hihg")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "llmhpc: --partition hihg: no such partition; nearest: high\n"


def test_a_partition_of_one_node_is_tried_on_it(slurm, tmp_path):
    done = doctor(slurm, tmp_path, "--partition", "one", "--json")
    assert done.returncode == 0, done.stderr
    checks = {check["name"]: check for check in json.loads(done.stdout)["checks"]}
    assert checks["nodes"]["mark"] == "note"
    assert checks["nodes"]["found"].startswith("127.0.0.1; Python")
    assert checks["rename, nodes"]["mark"] == "ok"


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_renames_that_are_not_atomic_on_nodes_are_refused(slurm, tmp_path):
    library, root = tmp_path / "rename.so", tmp_path / "runs"
    command = ["cc", "-shared", "-fPIC", "-DON_NODES_ONLY", "-o", library, RENAME_IN_PLACE]
    subprocess.run(command, check=True)
    root.mkdir()
    done = doctor(slurm | {"LD_PRELOAD": str(library)}, root, "--write", "never")
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"llmhpc: root={root}: rename, nodes: of ")
    assert line.endswith("rename is not atomic there: choose another filesystem")
    assert not (ROOT / "conf" / "cluster" / "never.yaml").exists()
    assert list(root.iterdir()) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes mounts of its own")
def test_a_root_that_nodes_do_not_see_is_refused(slurm, tmp_path):
    mount = (
        f"mount -t tmpfs none {tmp_path} && exec {shlex.join([*DOCTOR, '--root', str(tmp_path)])}"
    )
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-c", mount]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=slurm)
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip("no mounts in here")
    assert done.returncode == 1, done.stdout
    (line,) = done.stderr.splitlines()
    assert f"{tmp_path} is another folder there, or none" in line


def test_a_job_that_slurm_does_not_take_is_a_note(slurm, tmp_path):
    done = doctor(slurm | {"SLURM_CONSTRAINT": "nosuch"}, tmp_path, "--json")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout)["checks"][-1]
    assert (last["name"], last["mark"]) == ("nodes", "note")
    assert "feature" in last["found"]


@pytest.fixture
def full(slurm):
    """Both nodes taken by another job."""
    command = ["sbatch", "--parsable", "-N2", "--exclusive", "-o", "/dev/null", "--wrap=sleep 300"]
    job = subprocess.check_output(command, env=slurm, text=True).strip()
    yield
    subprocess.run(["scancel", job], check=True, env=slurm)


def test_nodes_that_do_not_come_are_a_note_and_the_job_is_gone(slurm, full, tmp_path):
    done = doctor(slurm, tmp_path, "--wait", "3", "--json")
    assert done.returncode == 0, done.stderr
    last = json.loads(done.stdout)["checks"][-1]
    assert (last["name"], last["mark"]) == ("nodes", "note")
    assert "no answer of 2 nodes in 3 s" in last["found"]
    assert "llmhpc-doctor" not in queue(slurm)


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_stopped_while_it_waits_it_leaves_nothing(slurm, full, tmp_path, sign):
    command = [*DOCTOR, "--root", tmp_path]
    process = subprocess.Popen(command, env=slurm, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while "llmhpc-doctor" not in queue(slurm):
        assert time.monotonic() < until
        time.sleep(0.1)
    process.send_signal(sign)
    assert "stopped; nothing is left behind" in process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert "llmhpc-doctor" not in queue(slurm)
    assert list(tmp_path.iterdir()) == []
