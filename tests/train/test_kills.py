"""Killed at any moment of a save: what latest.txt names is whole."""

import importlib
import json
import multiprocessing
import os
import random
import signal
import time

import pytest

from llmhpc.config import Resources
from llmhpc.files import sha256
from llmhpc.models.llama import Config as Llama
from llmhpc.train.settings import Parallel, Schedule

KILLS = 50
MODEL = Llama(vocab_size=128, hidden_size=64, layers=2, intermediate_size=96)
PARALLEL = Parallel(dp=2, zero_stage=1, micro_batch=1)
SCHEDULE = Schedule(steps=10**6, global_batch=2, sequence_length=16)


def save_for_ever(out, rank, job):
    """One process of a training that saves after each step."""
    from dataclasses import asdict

    import numpy as np

    from llmhpc.processes import joined
    from llmhpc.train import checkpoints
    from llmhpc.train.data import Rows
    from llmhpc.train.engine import Engine
    from llmhpc.train.saver import Saver

    os.environ |= {
        "SUBMITIT_LOCAL_JOB_ID": str(job),
        "SUBMITIT_LOCAL_NTASKS": "2",
        "SUBMITIT_LOCAL_GLOBALID": str(rank),
        "SUBMITIT_LOCAL_LOCALID": str(rank),
    }
    row = Rows(np.full((1, 17), 5), np.ones((1, 16), dtype=np.float32))
    with joined(2, Resources(), out / "work") as place:
        first, token = checkpoints.newest(out, rank=rank, device=place.device)
        engine = Engine(MODEL, PARALLEL, SCHEDULE, seed=0, place=place)
        if first:
            engine.load(out / "checkpoints" / str(first), first)
        saver = Saver(engine, out, token)
        engine.before_update = saver.before_update
        for step in range(first + 1, SCHEDULE.steps):
            engine.step([row], 1e-3)
            state = {"step": step, "updates": step, "reading": {}, "model": asdict(MODEL)}
            saver.start(state | {"layout": checkpoints.layout(PARALLEL)}, lambda seconds: None)


def latest(out):
    path = out / "checkpoints" / "latest.txt"
    return json.loads(path.read_text()) if path.exists() else 0


def check(out):
    """Every byte of the newest checkpoint, and that all whole tensors can be read."""
    from llmhpc.train.pieces import Shards

    folder = out / "checkpoints" / str(latest(out))
    state = json.loads((folder / "state.json").read_text())
    for name, seen in state["files"].items():
        assert sha256(folder / name) == seen["sha256"]
    shards = Shards(folder)
    assert len(shards.names("weight")) == len(shards.names("exp_avg")) > 10
    for key in shards.index:
        assert shards.whole(key).isfinite().all()


@pytest.mark.slow
def test_whatever_process_is_killed_the_latest_checkpoint_is_whole(tmp_path):
    importlib.import_module("llmhpc.train.engine")  # once, and not in each process
    fork = multiprocessing.get_context("fork")
    choose = random.Random(0)
    before = 0
    for kill in range(KILLS):
        processes = [
            fork.Process(target=save_for_ever, args=(tmp_path, rank, os.getpid() * 1000 + kill))
            for rank in (0, 1)
        ]
        for process in processes:
            process.start()
        deadline = time.monotonic() + 60
        while latest(tmp_path) <= before:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        time.sleep(choose.random() * 0.1)
        victim = choose.choice(processes)
        os.kill(victim.pid, signal.SIGKILL)
        time.sleep(choose.choice([0, 0.05]))  # the other one goes on for a while, or not
        for process in processes:
            process.kill()
            process.join()
        assert latest(tmp_path) > before
        before = latest(tmp_path)
        check(tmp_path)
