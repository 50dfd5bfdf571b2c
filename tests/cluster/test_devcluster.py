"""sbatch/devcluster, with the real Slurm that it brings up. Each cluster takes one or two seconds."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

DEVCLUSTER = Path(__file__).parents[2] / "sbatch" / "devcluster"
PATH = f"{os.environ['PATH']}:/usr/sbin:/sbin"
NO_SLURM = any(
    shutil.which(p, path=PATH) is None for p in ("slurmctld", "slurmd", "sbatch", "munged")
)
NO_DATABASE = any(shutil.which(program, path=PATH) is None for program in ("slurmdbd", "mariadbd"))

slurm = [
    pytest.mark.slurm,
    pytest.mark.skipif(
        NO_SLURM, reason="no Slurm: apt-get install slurmctld slurmd slurm-client munge"
    ),
]


def devcluster(*words: str | Path, **options) -> subprocess.CompletedProcess:
    return subprocess.run(
        [DEVCLUSTER, *words], check=False, capture_output=True, text=True, timeout=300, **options
    )


def up(room: Path, *words: str) -> subprocess.CompletedProcess:
    done = devcluster("up", "--dir", room, *words)
    assert done.returncode == 0, done.stderr
    return done


def on(room: Path, command: str) -> str:
    """What a shell prints that has evaluated `devcluster env`, as users do."""
    script = f'eval "$({DEVCLUSTER} env --dir {room})" && {command}'
    return subprocess.check_output(["bash", "-c", script], text=True, timeout=120)


def processes(room: Path) -> list[str]:
    """Command lines of what runs in a directory or names it; zombies have none."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
        if f"{room}/" in command:
            found.append(command)
    return found


def pid(room: Path, daemon: str) -> int:
    return int((room / f"run/{daemon}.pid").read_text())


def wait_for(ready: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not ready():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.05)


@pytest.fixture
def room() -> Iterator[Path]:
    """A directory for a cluster; pytest's own is too long for the paths of sockets."""
    folder = Path(tempfile.mkdtemp(prefix="devcluster-", dir="/tmp")).resolve()
    yield folder
    devcluster("down", "--dir", folder, user=folder.stat().st_uid)
    left = processes(folder)
    shutil.rmtree(folder)
    assert not left


class TestCluster:
    pytestmark = slurm

    def test_a_job_runs_on_every_node_and_sees_its_gpus(self, room: Path) -> None:
        up(room, "--nodes", "3", "--gpus", "2")
        job = "srun -N3 --gpus-per-node=2 bash -c 'echo $SLURMD_NODENAME $CUDA_VISIBLE_DEVICES'"
        lines = sorted(on(room, job).split("\n"))
        assert [line.split()[1] for line in lines if line] == ["0,1"] * 3
        for line in filter(None, lines):
            assert socket.gethostbyname(line.split()[0]).startswith("127.")
        assert on(room, "sinfo -h -o %P").split() == ["cpu*", "high", "low"]

    def test_up_and_down_twice_are_harmless(self, room: Path) -> None:
        up(room, "--nodes", "1")
        first = pid(room, "slurmctld")
        assert "already up" in up(room, "--nodes", "2").stderr
        assert pid(room, "slurmctld") == first
        assert devcluster("status", "--dir", room).returncode == 0
        for _ in range(2):
            assert devcluster("down", "--dir", room).returncode == 0
            assert not processes(room)
        assert devcluster("status", "--dir", room).returncode == 1
        assert devcluster("env", "--dir", room).returncode == 2

    def test_a_killed_daemon_is_reported_and_started_again(self, room: Path) -> None:
        up(room, "--nodes", "2")
        on(room, "sbatch -w 127.0.0.1 -o /dev/null --wrap 'sleep 300'")
        wait_for(lambda: on(room, "squeue -h -o %T").split() == ["RUNNING"])
        os.kill(pid(room, "slurmd-127.0.0.2"), signal.SIGKILL)
        wait_for(lambda: devcluster("status", "--dir", room).returncode == 1)
        assert "slurmd-127.0.0.2" in up(room).stderr
        assert devcluster("status", "--dir", room).returncode == 0
        assert on(room, "squeue -h -o %T").split() == ["RUNNING"]

    def test_down_ends_jobs_whose_daemons_were_killed(self, room: Path) -> None:
        up(room, "--nodes", "1")
        on(room, f"sbatch -o {room}/o --wrap 'echo begun; tail -f {room}/cluster.json'")
        wait_for(lambda: any("tail -f" in command for command in processes(room)))
        for daemon in ("slurmctld", "slurmd-127.0.0.1"):
            os.kill(pid(room, daemon), signal.SIGKILL)
        devcluster("down", "--dir", room)
        assert not processes(room)
        up(room, "--nodes", "1")  # nor do they come back
        assert on(room, "squeue -h -t PD,R -o %T") == ""

    def test_a_pid_that_somebody_else_has_now_is_left_alone(self, room: Path) -> None:
        up(room, "--nodes", "1")
        devcluster("down", "--dir", room)
        other = subprocess.Popen(["sleep", "300"])
        (room / "run/slurmctld.pid").write_text(f"{other.pid}\n")
        assert devcluster("down", "--dir", room).returncode == 0
        assert other.poll() is None
        other.kill()
        other.wait()

    @pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
    def test_an_interrupted_up_leaves_nothing(self, room: Path, sign: int) -> None:
        process = subprocess.Popen(
            [DEVCLUSTER, "up", "--dir", room], stderr=subprocess.PIPE, text=True
        )
        wait_for((room / "run/slurmctld.pid").exists)
        process.send_signal(sign)
        assert "stopping what was started" in process.communicate(timeout=60)[1]
        assert process.returncode == 128 + sign
        assert not processes(room)

    def test_clusters_that_start_at_once_do_not_collide(self, room: Path) -> None:
        rooms = [room / name for name in "abc"]
        starts = [
            subprocess.Popen([DEVCLUSTER, "up", "--dir", r, "--nodes", "1"], stderr=-3)
            for r in rooms
        ]
        assert [start.wait(120) for start in starts] == [0, 0, 0]
        ports = {json.loads((r / "cluster.json").read_text())["port"] for r in rooms}
        assert len(ports) == 3
        devcluster("down", "--dir", rooms[0], "--wipe")
        assert not rooms[0].exists()
        assert on(rooms[1], "srun echo still there") == "still there\n"
        for r in rooms[1:]:
            devcluster("down", "--dir", r)

    def test_a_taken_port_is_named_and_otherwise_passed_over(self, room: Path) -> None:
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = devcluster("up", "--dir", room, "--port", str(port), "--nodes", "1")
        assert done.returncode == 2
        assert done.stderr.startswith(f"devcluster: --port {port}: ")
        assert not processes(room)

    def test_a_line_of_slurm_conf_is_replaced(self, room: Path) -> None:
        up(room, "--nodes", "1", "--set", "maxarraysize=11", "--set", "PartitionName=x Nodes=ALL")
        assert "MaxArraySize            = 11\n" in on(room, "scontrol show config")
        assert on(room, "sinfo -h -o %P").split() == ["cpu*", "high", "low", "x"]

    def test_what_slurm_refuses_is_said_and_nothing_stays_up(self, room: Path) -> None:
        done = devcluster("up", "--dir", room, "--set", "NoSuchKey=1")
        assert done.returncode == 2
        assert "unrecognized key: NoSuchKey" in done.stderr
        assert not processes(room)

    @pytest.mark.skipif(NO_DATABASE, reason="apt-get install slurmdbd mariadb-server")
    def test_accounting_knows_a_job_after_its_cluster_came_back(self, room: Path) -> None:
        up(room, "--nodes", "1", "--dbd")
        on(room, "srun true")
        devcluster("down", "--dir", room)
        up(room, "--nodes", "1", "--dbd")
        wait_for(lambda: "COMPLETED" in on(room, "sacct -n -X -o State"))

    @pytest.mark.skipif(os.geteuid() != 0, reason="the other tests are an ordinary user's already")
    def test_an_ordinary_user_has_a_cluster_too(self, room: Path) -> None:
        nobody = {"user": 65534, "group": 65534, "extra_groups": [], "cwd": "/"}
        nobody["env"] = {"PATH": "/usr/bin:/bin", "TMPDIR": str(room)}
        if devcluster("--help", **nobody).returncode:
            pytest.skip("an ordinary user cannot read this checkout")
        os.chown(room, 65534, 65534)
        assert devcluster("up", "--nodes", "2", "--gpus", "1", **nobody).returncode == 0
        room /= "devcluster-65534"  # where there is no XDG_RUNTIME_DIR
        nobody["env"]["SLURM_CONF"] = f"{room}/etc/slurm.conf"
        srun = ["srun", "-N2", "--gpus-per-node=1", "id", "-u"]
        assert subprocess.check_output(srun, text=True, **nobody).split() == ["65534"] * 2
        assert "neither root's" in devcluster("env", "--dir", room).stderr
        assert devcluster("down", **nobody).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["up", "--nodes", "0"], "--nodes: '0' is not a number from 1 to 250"),
        (["up", "--set", "MaxArraySize"], "--set: 'MaxArraySize' is not KEY=VALUE"),
        (["start"], "invalid choice: 'start'"),
        (["env", "--dir", "/nowhere"], "no cluster is up in /nowhere"),
    ],
)
def test_a_wrong_call_gets_one_line(words: list[str], message: str) -> None:
    done = devcluster(*words)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert message in done.stderr


@pytest.mark.skipif(NO_SLURM, reason="the packages are looked for first")
def test_a_directory_that_is_not_safe_or_not_ours_is_refused(room: Path) -> None:
    (room / "precious").touch()
    assert "not empty" in devcluster("up", "--dir", room).stderr
    room.chmod(0o777)
    assert "writable to nobody else" in devcluster("up", "--dir", room).stderr
    assert "at most 61 bytes" in devcluster("up", "--dir", room / ("x" * 60)).stderr
    devcluster("down", "--dir", room, "--wipe")
    assert [path.name for path in room.iterdir()] == ["precious"]


def test_missing_packages_are_named_with_the_command(room: Path) -> None:
    command = [sys.executable, DEVCLUSTER, "up", "--dir", room]
    nowhere = {"env": {"PATH": "/nowhere"}}
    done = subprocess.run(command, check=False, capture_output=True, text=True, **nowhere)
    assert done.returncode == 2
    assert "sbatch" in done.stderr
    assert done.stderr.count("\n") == 1
    assert "apt-get install" in done.stderr
    assert "slurm-client" in done.stderr
