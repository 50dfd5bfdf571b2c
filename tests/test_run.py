"""A whole small run on this machine: killed, launched again, twice at once, looked at."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from llmhpc.files import read_json

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
DATA = ("collect", "filter", "dedup", "shuffle", "tokenizer", "tokenize")


def launch(root: Path, tiny: list[str], *more: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "llmhpc.launch", *tiny, f"root={root}", *more]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def finished(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=500)
    assert process.returncode == 0, out + err
    return out


def status(root: Path) -> dict[str, dict]:
    command = [sys.executable, "-m", "llmhpc.status", str(root), "--json"]
    rows = json.loads(subprocess.run(command, check=False, capture_output=True, text=True).stdout)
    return {row["name"]: row for row in rows}


def files(root: Path, step: str) -> dict:
    return read_json(next(root.glob(f"{step}-*/manifest.json")))["files"]


@pytest.fixture(scope="module")
def root(local_run):
    """A run that nobody disturbed."""
    last = local_run.out.strip().splitlines()[-2:]
    assert last[0].startswith("final checkpoint") and last[1].startswith("report")
    return local_run.root


def test_every_step_is_done_and_says_what_it_made(root):
    rows = status(root)
    assert list(rows) == [*DATA, "inspect", "train", "evaluate", "verdict", "report"]
    for row in rows.values():
        assert row["state"] == "done"
        assert row["seconds"] > 0
        assert row["counts"]
        assert (Path(row["out"]) / "manifest.json").exists()


def test_the_final_export_opens_in_transformers_and_generates(root):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    train = Path(status(root)["train"]["out"])
    export = train / read_json(train / "exports.json")[-1]["path"]
    model, tokenizer = (
        kind.from_pretrained(export) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    prompt = tokenizer("The class", return_tensors="pt")
    out = model.generate(**prompt, max_new_tokens=5, do_sample=False)
    assert out.shape[1] > prompt["input_ids"].shape[1]


def test_a_second_launch_runs_nothing_and_takes_no_time(root, tiny):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}
    begun = time.monotonic()
    assert "nothing to run" in finished(launch(root, tiny))
    assert time.monotonic() - begun < 6  # 3 s on a machine that does nothing else
    assert before == {path: path.stat().st_mtime_ns for path in root.rglob("*") if path.is_file()}


def test_a_changed_threshold_is_named_and_only_what_follows_would_run(root, tiny):
    out = finished(
        launch(root, tiny, "stages.filter.rules.gopher_quality.min_words=60", "dry_run=true")
    )
    lines = {line.split()[0]: line for line in out.splitlines()}
    assert " done " in lines["collect"]
    assert "rules.gopher_quality.min_words: 50 -> 60" in lines["filter"]
    assert " to run " in lines["filter"]
    for name in ("dedup", "shuffle", "tokenizer", "tokenize", "train", "evaluate", "report"):
        assert " to run " in lines[name]
        assert "changed (" in lines[name]


def test_a_killed_run_goes_on_to_the_same_bytes(root, tiny, tmp_path):
    for wait in (4, 8, 6):
        process = launch(tmp_path, tiny)
        time.sleep(wait)
        process.send_signal(signal.SIGKILL if wait == 8 else signal.SIGTERM)
        process.wait()
    finished(launch(tmp_path, tiny))
    for step in DATA:
        assert files(tmp_path, step) == files(root, step), step
    train = "train"
    weights = {
        name: f for name, f in files(root, train).items() if name.endswith("model.safetensors")
    }
    assert weights
    assert all(files(tmp_path, train)[name] == f for name, f in weights.items())


def test_training_that_outlives_its_launcher_is_waited_for(root, tiny):
    process = launch(root, tiny, "seed=5")
    until = time.monotonic() + 200
    while not any(root.glob("train-*/attempts/*.json")) or len(list(root.glob("train-*"))) < 2:
        assert time.monotonic() < until
        time.sleep(0.2)
    train = max(root.glob("train-*"), key=lambda path: path.stat().st_ctime)
    while not any(train.glob("attempts/*.json")):
        time.sleep(0.1)
    process.kill()
    process.wait()
    finished(launch(root, tiny, "seed=5"))
    assert (train / "manifest.json").exists()
    assert [path.name for path in train.glob("attempts/*.json")] == ["main-00000-000.json"]


def test_two_launches_at_once_do_the_work_once(tiny, tmp_path):
    short = [*tiny, "~stages.evaluate", "~stages.verdict", "~stages.report", "~stages.train"]
    both = [launch(tmp_path, short) for _ in range(2)]
    for process in both:
        finished(process)
    attempts = [path.name for path in tmp_path.glob("*/attempts/*.json")]
    assert attempts
    assert all(name.endswith("-000.json") for name in attempts)


def test_a_rank_that_forwards_nothing_is_a_failure_that_says_so(root, tiny):
    process = launch(root, tiny, "stages.filter.rules.language.languages=[de]", "name=failing")
    _, err = process.communicate(timeout=300)
    assert process.returncode == 1
    assert "filter failed" in err
    assert "forwarded none" in err
    log = err.strip().splitlines()[-1].split("its log: ")[1]
    assert "forwarded none" in Path(log).read_text()
    rows = status(root)
    assert rows["filter"]["state"] == "failed"
    assert not (Path(rows["filter"]["out"]) / "manifest.json").exists()
    assert rows["dedup"]["state"] == "to run"


def test_a_step_can_be_made_by_hand(root, tiny, tmp_path):
    process = launch(tmp_path, tiny)
    while process.poll() is None and not list(tmp_path.glob("collect-*/step.json")):
        time.sleep(0.1)
    process.terminate()
    process.wait()
    (home,) = tmp_path.glob("collect-*")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "llmhpc.step", str(home)]
    subprocess.run(command, check=True, env=environment, cwd=ROOT)
    assert files(tmp_path, "collect") == files(root, "collect")


def started(module: str, *words: object) -> subprocess.Popen:
    command = [sys.executable, "-m", f"llmhpc.{module}", *map(str, words)]
    pipe = subprocess.PIPE
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, cwd=ROOT)


def test_points_of_a_sweep_on_this_machine_make_what_they_share_once(tiny, tmp_path):
    later = (
        "dedup",
        "shuffle",
        "tokenizer",
        "tokenize",
        "train",
        "evaluate",
        "verdict",
        "inspect",
        "report",
    )
    words = [*tiny[:2], *(f"~stages.{name}" for name in later), "~model", "~parallel", "~schedule"]
    words += ["stages.collect.ranks=2", "stages.filter.ranks=1", f"root={tmp_path}"]
    rule = "stages.filter.rules.gopher_quality.min_words=50,60"
    out = finished(started("launch", "-m", *words, rule))
    assert sum(line.endswith(" done") for line in out.splitlines()) == 3
    assert len(list(tmp_path.glob("filter-*/manifest.json"))) == 2
    (collect,) = tmp_path.glob("collect-*")
    assert sorted(path.name for path in collect.glob("attempts/*")) == [
        "main-00000-000.json", "main-00001-000.json",
    ]  # fmt: skip
    assert "all 3 steps are done" in finished(started("launch", "-m", *words, rule))


def test_status_shows_the_failed_steps_and_watches_until_nothing_runs(pages_of, tmp_path):
    pages, root = pages_of(2), tmp_path / "root"
    # of the second point every record is passed over as too large, which is a failure
    points = ["-m", "stages.collect.source.max_record_mb=50,0.001"]
    pages.free(0, 1, body=b"<p>" + os.urandom(4000).hex().encode())
    assert started("launch", *points, *pages.words, f"root={root}").wait(100) == 1
    shown = started("status", root, "--failed", "--json")
    (row,) = json.loads(shown.communicate()[0])
    assert (shown.returncode, row["state"]) == (1, "failed")
    assert "no usable page" in row["note"]
    assert "no usable page" in Path(row["log"]).read_text()
    table = started("status", root, "--failed").communicate()[0]
    assert f"log:{row['log']}" in "".join(table.split())  # a long path goes over several lines
    assert " done " not in table

    root = tmp_path / "other"
    pages.hold(1)
    launched = started("launch", *pages.words, f"root={root}")
    until = time.monotonic() + 60
    while not (begun := list(root.glob("collect-*/attempts/main-00001-000.json"))):
        assert time.monotonic() < until
        time.sleep(0.1)
    watching = started("status", root, "--watch")
    time.sleep(3)
    assert watching.poll() is None
    pages.free(1)
    os.kill(read_json(begun[0])["pid"], signal.SIGKILL)
    assert launched.wait(60) == 0
    assert watching.wait(30) == 0
    assert " done " in watching.communicate()[0]
    assert started("status", root, "--failed").wait(30) == 0
