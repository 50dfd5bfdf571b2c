"""The small run on a real Slurm: the same artifacts, failures that clear the queue, launches that join."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhpc.files import read_json

ROOT = Path(__file__).parents[2]
DATA = ("collect", "filter", "dedup", "shuffle", "tokenizer", "tokenize")
WAIT_S = 600

pytestmark = pytest.mark.slurm


def launch(environment: dict, root: Path, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "llmhpc.launch", "cluster=slurm", f"root={root}", *overrides]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment, cwd=ROOT)


def submitted(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, out + err
    return out


def status(environment: dict, root: Path) -> dict[str, dict]:
    command = [sys.executable, "-m", "llmhpc.status", str(root), "--json"]
    call = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    return {row["name"]: row for row in json.loads(call.stdout)}


def settled(environment: dict, root: Path) -> dict[str, dict]:
    """The state of every step once nothing is queued or running any more."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        rows = status(environment, root)
        if not {"queued", "running"} & {row["state"] for row in rows.values()}:
            return rows
        time.sleep(1)
    pytest.fail(f"still going after {WAIT_S} s: {rows}")


def done(environment: dict, root: Path) -> dict[str, dict]:
    rows = settled(environment, root)
    assert {row["state"] for row in rows.values()} == {"done"}, rows
    return rows


def files(root: Path, step: str) -> dict:
    return read_json(next(root.glob(f"{step}-*/manifest.json")))["files"]


@pytest.fixture(scope="module")
def shared(shell, tiny, tmp_path_factory):
    """A whole run as dp2 x pp2 on two nodes, and what it was launched with."""
    root = tmp_path_factory.mktemp("shared")
    overrides = [o for o in tiny if not o.startswith("parallel=")]
    overrides += ["stages.train.resources.nodes=2"]
    submitted(launch(shell, root, *overrides, "parallel=dp2_pp2"))
    done(shell, root)
    return root, overrides


def test_a_run_on_slurm_makes_the_same_bytes_as_on_one_machine(shared, local_run):
    root, _ = shared
    for step in DATA:
        assert files(root, step) == read_json(local_run.homes[step] / "manifest.json")["files"], (
            step
        )


def test_training_on_two_nodes_gives_the_losses_of_one_process(shared, local_run):
    root, _ = shared
    runs = [next(root.glob("train-*/metrics.jsonl")), local_run.homes["train"] / "metrics.jsonl"]
    losses = [[json.loads(line)["loss"] for line in run.read_text().splitlines()] for run in runs]
    assert len(losses[0]) == len(losses[1]) == 20
    assert losses[0] == pytest.approx(losses[1], abs=1e-4)


def test_another_layout_and_seed_shares_the_steps_that_do_not_change(shared, shell):
    root, overrides = shared
    # the seed changes the order of the documents; the layout alone would change nothing
    out = submitted(launch(shell, root, *overrides, "parallel=tp2_pp2", "seed=1"))
    assert "collect" not in out and "dedup" not in out and "shuffle" in out
    rows = done(shell, root)
    assert len(read_json(Path(rows["train"]["out"]) / "exports.json")) == 2


def test_a_second_launch_submits_nothing(shared, shell):
    root, overrides = shared
    out = submitted(launch(shell, root, *overrides, "parallel=dp2_pp2"))
    assert "nothing to run" in out


def test_a_failing_step_takes_what_follows_off_the_queue(shared, shell):
    root, overrides = shared
    wrong = "stages.filter.rules.language.languages=[de]"
    submitted(launch(shell, root, *overrides, "parallel=dp2_pp2", wrong))
    rows = settled(shell, root)
    assert rows["collect"]["state"] == "done"
    assert rows["filter"]["state"] == "failed"
    assert "forwarded none" in rows["filter"]["note"]
    assert "forwarded none" in Path(rows["filter"]["log"]).read_text()
    assert not (Path(rows["filter"]["out"]) / "manifest.json").exists()
    for name in ("dedup", "shuffle", "tokenizer", "tokenize", "train", "evaluate", "report"):
        assert rows[name]["state"] == "to run", rows[name]
    until = (
        time.monotonic() + 60
    )  # Slurm takes jobs that can never start off the queue in its next round
    while queue := subprocess.check_output(["squeue", "--noheader"], env=shell, text=True):
        assert time.monotonic() < until, queue
        time.sleep(0.5)


def test_two_launches_at_once_do_the_work_once(shell, tiny, tmp_path_factory):
    root = tmp_path_factory.mktemp("twice")
    short = [*tiny, "~stages.train", "~stages.evaluate", "~stages.verdict", "~stages.report"]
    both = [launch(shell, root, *short) for _ in range(2)]
    first, second = (submitted(process) for process in both)
    jobs = [[line.split()[2:] for line in out.splitlines()[:6]] for out in (first, second)]
    assert jobs[0] == jobs[1]
    assert {line.split()[1] for line in (first + second).splitlines()[:6]} <= {"jobs", "joins"}
    done(shell, root)
    attempts = [path.name for path in root.glob("*/attempts/*.json")]
    assert attempts
    assert all(name.endswith("-000.json") for name in attempts)


def test_a_step_by_sbatch_makes_the_same_artifact(shell, tiny, shared, tmp_path_factory):
    root = tmp_path_factory.mktemp("by_hand")
    short = [*tiny, "~stages.train", "~stages.evaluate", "~stages.verdict", "~stages.report"]
    submitted(launch(shell, root, *short))
    time.sleep(3)  # some ranks are at work, with children
    subprocess.run(["scancel", "--me"], check=True, env=shell)
    settled(shell, root)
    (home,) = root.glob("collect-*")
    environment = shell | {"LLMHPC_PYTHON": sys.executable}
    script = [str(ROOT / "sbatch" / "step.sbatch"), str(home)]
    command = ["sbatch", "--wait", "--chdir", str(root), *script]
    subprocess.run(command, check=True, env=environment, timeout=WAIT_S)
    assert files(root, "collect") == files(shared[0], "collect")
