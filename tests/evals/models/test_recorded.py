"""Batches of an evaluation that are kept: a start that goes on does only what no other has done."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent import futures
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from llmhpc import processes
from llmhpc.evals.models import places, recorded, scoring, writing
from llmhpc.evals.tasks import continuation, heldout, written
from llmhpc.handoff import artifact, attempts
from llmhpc.jobs.evaluate import Config, run
from llmhpc.planning.plan import Step, fingerprint, plain
from llmhpc.task import Task

BATCH_TOKENS = 256  # of which every unit has several


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """One of each way to ask."""
    data = tmp_path_factory.mktemp("data")
    rows = [{"prompt": f"River {n}", "answers": ["stone"]} for n in range(12)]
    (data / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {
        "continuation": continuation.Config(
            items=24, items_min=8, context_bytes=60, continuation_bytes=40
        ),
        "heldout": heldout.Config(bytes=6000),
        "copied": written.Config(data_dir=str(data), max_tokens=6),
    }


def start(tasks, train, tokens, home):
    """Every file of an evaluation in one process."""
    out = home / f"out-{len(list(home.glob('out-*')))}"
    out.mkdir(parents=True)
    cfg = Config(tasks=tasks, batch_tokens=BATCH_TOKENS)
    task = Task(phase="main", rank=0, ranks=1, seed=0, home=home)
    run(cfg, {"model": train, "tokens": tokens}, out, task)
    return out


def records(home: Path) -> list[bytes]:
    """What all starts have kept, line by line."""
    paths = sorted(home.glob("work/answers/*/batches/*.jsonl"))
    return [line for path in paths for line in path.read_bytes().splitlines(keepends=True)]


def hashes(home: Path) -> list[str]:
    """Of the batches that are kept whole."""
    return [json.loads(line)[0] for line in records(home) if line.endswith(b"\n")]


@pytest.fixture(scope="module")
def whole(tasks, untrained_step, tokens_step, tmp_path_factory):
    """The step's directory of a start that nobody disturbed, and its files."""
    home = tmp_path_factory.mktemp("whole")
    return home, start(tasks, untrained_step, tokens_step, home)


@pytest.fixture
def interrupt(monkeypatch):
    """Breaks off the work of this process before it has done so many batches; tells how many it has done."""
    done, last = [], [0]

    def counted(real):
        def one(self, batch):
            if len(done) == last[0]:
                raise KeyboardInterrupt
            done.append(batch.hash)
            return real(self, batch)

        return one

    for owner, name in ((scoring.Scorer, "score_batch"), (writing.Writer, "write_batch")):
        monkeypatch.setattr(owner, name, counted(getattr(owner, name)))

    def after(batches: int) -> list[str]:
        done.clear()
        last[0] = batches
        return done

    return after


def test_a_start_that_goes_on_does_what_is_missing_and_ends_with_the_same_bytes(
    tasks, whole, untrained_step, tokens_step, interrupt, tmp_path, files_of
):
    every = hashes(whole[0])
    assert len(every) == len(set(every)) > 20
    done = []
    for batches in (3, len(every) // 2, 1):  # in the middle of a unit, and at once
        mine = interrupt(batches)
        with pytest.raises(KeyboardInterrupt):
            start(tasks, untrained_step, tokens_step, tmp_path)
        done += mine
        assert sorted(hashes(tmp_path)) == sorted(done)
    rest = interrupt(len(every))
    out = start(tasks, untrained_step, tokens_step, tmp_path)
    assert sorted(done + rest) == sorted(every)
    assert files_of(out) == files_of(whole[1])
    interrupt(0)  # not one more
    assert files_of(start(tasks, untrained_step, tokens_step, tmp_path)) == files_of(whole[1])


def test_what_a_kill_left_half_written_is_done_again(
    tasks, whole, untrained_step, tokens_step, interrupt, tmp_path, files_of
):
    every = hashes(whole[0])
    interrupt(4)
    with pytest.raises(KeyboardInterrupt):
        start(tasks, untrained_step, tokens_step, tmp_path)
    (path,) = tmp_path.glob("work/answers/*/batches/*.jsonl")
    path.write_bytes(path.read_bytes()[:-5])
    rest = interrupt(len(every))
    out = start(tasks, untrained_step, tokens_step, tmp_path)
    assert len(rest) == len(every) - 3
    assert files_of(out) == files_of(whole[1])


@pytest.fixture
def home(tasks, untrained_step, tokens_step, tmp_path):
    """A step that was ordered, of inputs that are whole."""
    # the model's name, which is that of its folder, is in the files for model cards
    inputs = {"model": tmp_path / untrained_step.name, "tokens": tmp_path / "tokens"}
    for made, path in zip((untrained_step, tokens_step), inputs.values(), strict=True):
        shutil.copytree(made, path)
        (path / artifact.MANIFEST).write_text("{}")
    stage = Config(tasks=tasks, batch_tokens=BATCH_TOKENS)
    marks = {role: path.name for role, path in inputs.items()}
    mark = fingerprint(plain(stage, identity_only=True), marks, 0)
    step = Step("evaluate", stage, 0, mark, tmp_path / f"evaluate-{mark}", inputs)
    artifact.order(step)
    return step.out


def by_hand(home: Path) -> subprocess.Popen:
    command = [sys.executable, "-m", "llmhpc.step", str(home)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_a_step_that_is_killed_goes_on_where_it_was(whole, home, files_of):
    every, killed, until = hashes(whole[0]), by_hand(home), time.monotonic() + 100
    while not records(home):
        assert time.monotonic() < until and killed.poll() is None
        time.sleep(0.001)
    os.kill(killed.pid, signal.SIGKILL)
    killed.wait()
    before = hashes(home)
    assert 0 < len(before) < len(every)
    assert not artifact.sealed(home)
    again = by_hand(home)
    kept = before
    while again.poll() is None:  # what is kept until then goes with the seal
        kept = hashes(home) or kept
        time.sleep(0.001)
    assert again.returncode == 0, again.stderr.read()
    assert len(kept) == len(set(kept)) and set(kept) <= set(every)
    made = files_of(whole[1])
    assert {name: (home / name).read_bytes() for name in made} == made
    causes = [attempt["cause"] for attempt in attempts.by_rank(home, "main")[0]]
    assert causes == ["killed", "done"]


class Piece(NamedTuple):
    """A unit of work."""

    hash: str
    positions: int = 1


def test_copies_of_a_model_do_each_batch_once_and_know_them_all(tmp_path):
    done: list[tuple[int, str]] = []

    def work(place):
        kept = recorded.Records(tmp_path / "checkpoint" / "batches", place)

        def do(piece):
            done.append((place.dp_rank, piece.hash))
            return [piece.hash.upper()]

        found = [
            kept.fill([Piece(h) for h in names], do, lambda part: None) for names in ("abcd", "def")
        ]
        kept.close()
        return found

    for _ in range(2):  # nothing is left for a second start
        store, cpu = torch.distributed.HashStore(), torch.device("cpu")
        two = [
            places.Place(n, 2, 0, 1, processes.Place(n, 2, n, cpu, store=store)) for n in range(2)
        ]
        with futures.ThreadPoolExecutor() as pool:
            for found in pool.map(work, two):
                assert found == [{h: [h.upper()] for h in names} for names in ("abcd", "def")]
        assert sorted(done) == [(0, "a"), (0, "c"), (0, "e"), (1, "b"), (1, "d"), (1, "f")]
