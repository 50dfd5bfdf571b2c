"""Two people of one group share a root: nobody's jobs are doubled or ended, and each is told who has what."""

import os
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
GROUP = 65534
PEOPLE = {"nobody": 65534, "daemon": 1}  # whom every system has

pytestmark = [
    pytest.mark.slurm,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can be two others"),
]


@pytest.fixture(scope="module")
def python() -> Iterator[Path]:
    """An interpreter that everybody may start, with what this one has."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="py"))
    folder.chmod(0o755)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    base = shutil.which(version, path="/usr/bin:/usr/local/bin") or sys.executable
    subprocess.run([base, "-m", "venv", "--without-pip", folder], check=True)
    line = f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n"
    next(folder.glob("lib/*/site-packages")).joinpath("shared.pth").write_text(line)
    yield folder / "bin" / "python"
    shutil.rmtree(folder)


@pytest.fixture
def share() -> Iterator[Path]:
    """A folder of the group."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="share"))
    os.chown(folder, 0, GROUP)
    folder.chmod(0o2775)
    yield folder
    for _ in range(2):  # what ends last may write once more
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.5)


@pytest.fixture
def person_of(shell, user_of, python, share):
    """Makes one of the two people, who share a root."""

    class Person(user_of):
        def start(self, *words: str | Path, umask: int = 0o002) -> subprocess.Popen:
            return subprocess.Popen(
                [str(word) for word in (python, "-m", *words)],
                stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=self.environment,
                cwd=ROOT, user=PEOPLE[self.name], group=GROUP, extra_groups=[], umask=umask,
            )  # fmt: skip

        def python(self, module: str, *words, umask: int = 0o002) -> subprocess.CompletedProcess:
            process = self.start(f"llmhpc.{module}", *words, umask=umask)
            out, err = process.communicate(timeout=120)
            return subprocess.CompletedProcess(process.args, process.returncode, out, err)

    def make(name: str) -> Person:
        who = {"USER": name, "LOGNAME": name, "HOME": str(share)}
        person = Person(shell | who, share / "root")
        person.name = name
        return person

    (share / "root").mkdir()
    (share / "root").chmod(0o2775)
    if make("nobody").python("status", "--help").returncode:
        pytest.skip("other users cannot read this checkout")
    return make


@pytest.fixture
def ours(person_of, share, pages_in):
    """The two people, and pages of two ranks that all may read, which are held."""
    pages = pages_in(share / "pages", 2)
    pages.hold(0, 1)
    return person_of("nobody"), person_of("daemon"), pages


def launching(person, *words: str) -> subprocess.CompletedProcess:
    return person.python("launch", *words, f"root={person.root}")


def test_who_makes_a_step_without_slurm_is_said(ours):
    first, second, pages = ours
    local = first.start("llmhpc.launch", *pages.words, f"root={first.root}")
    first.wait_for(lambda: len(first.begun("collect")) == 2)
    who = f"by nobody on {os.uname().nodename}, process {local.pid}"
    refused = launching(second, "cluster=slurm", *pages.words)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert f"is being made {who}: wait, or end it there" in refused.stderr
    waiting = second.start("llmhpc.launch", *pages.words, f"root={second.root}")
    assert who in waiting.stdout.readline()
    held = first.begun("collect")
    for record in held:
        os.kill(record["pid"], signal.SIGKILL)
    first.gone(held)
    pages.free(0, 1)
    assert local.wait(60) == 0
    assert waiting.wait(60) == 0
    assert [r["cause"] for r in first.attempts("collect")] == ["killed", "done"] * 2


def test_jobs_of_somebody_else_are_joined_and_never_doubled_or_ended(ours):
    first, second, pages = ours
    assert launching(first, "cluster=slurm", *pages.words).returncode == 0
    first.wait_for(lambda: len(first.begun("collect")) == 2)
    jobs, queue = first.jobs("collect"), sorted(first.queue())
    joined = launching(second, "cluster=slurm", *pages.words)
    assert joined.returncode == 0, joined.stderr
    (line,) = joined.stdout.splitlines()[:-1]
    assert "joins" in line and "made by nobody on" in line
    cancelled = second.python("cancel", "--root", second.root)
    assert (cancelled.returncode, cancelled.stderr.count("\n")) == (1, 1), cancelled.stderr
    assert "not this user's to cancel" in cancelled.stderr
    assert (first.jobs("collect"), sorted(first.queue())) == (jobs, queue)

    first.run("scancel", jobs["gates"]["main"], *jobs["rescues"])  # as root: its tasks go on alone
    first.wait_for(lambda: len(first.queue()) == 2)
    refused = launching(second, "cluster=slurm", *pages.words)
    assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
    assert "is being made by nobody on" in refused.stderr
    assert len(first.queue()) == 2
    held = first.begun("collect")
    first.run("scancel", jobs["tasks"][0]["job"])
    first.gone(held)
    pages.free(0, 1)
    first.over()
    assert launching(second, "cluster=slurm", *pages.words).returncode == 0
    second.over()
    assert list(second.root.glob("collect-*/manifest.json"))  # by the gate of the second
    assert [r["cause"] for r in first.attempts("collect")] == ["cancelled", "done"] * 2


@pytest.mark.parametrize(
    ("umask", "commands"), [(0o077, ["launch", "status", "cancel", "logs"]), (0o022, ["launch"])]
)
def test_files_that_somebody_else_may_not_use_are_said_in_a_line(ours, umask, commands):
    first, second, pages = ours
    pages.free(0, 1)
    done = first.python("launch", *pages.words, f"root={first.root}", umask=umask)
    assert done.returncode == 0, done.stderr
    words = {
        "launch": [*pages.words, "stages.collect.source.max_record_mb=40", f"root={second.root}"],
        "status": [second.root],
        "cancel": ["--root", second.root],
        "logs": ["collect", "--root", second.root],
    }
    for command in commands:
        refused = second.python(command, *words[command])
        assert (refused.returncode, refused.stderr.count("\n")) == (1, 1), refused.stderr
        assert "not permitted to daemon" in refused.stderr
        assert "umask 002" in refused.stderr
