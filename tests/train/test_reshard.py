"""A checkpoint cut for another layout holds the same numbers, in the files that the layout's processes would write."""

import json
import shutil
import subprocess
import sys

import pytest
import torch

from llmhpc.train import checkpoints
from llmhpc.train.pieces import Shards


def reshard(*words):
    command = [sys.executable, "-m", "llmhpc.reshard", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


def test_there_and_back_is_the_same_to_the_byte(single, tmp_path):
    first = single / "checkpoints" / "6"
    cut = tmp_path / "cut"
    assert reshard(first, cut, "cp=2", "tp=2", "pp=2", "zero_stage=1").returncode == 0
    assert len(list(cut.glob("optimizer-*"))) == 8
    assert len(list(cut.glob("weights-*"))) == 4  # of the first replica
    assert not checkpoints.fault(cut)
    expected = {"dp": 1, "cp": 2, "tp": 2, "pp": 2, "zero_stage": 1}
    assert checkpoints.state_of(cut)["layout"] == expected
    whole, parts = Shards(first), Shards(cut)
    for key in whole.index:
        assert torch.equal(whole.whole(key), parts.whole(key)), key
    assert reshard(cut, tmp_path / "back").returncode == 0
    for path in first.iterdir():
        assert (tmp_path / "back" / path.name).read_bytes() == path.read_bytes(), path.name


@pytest.mark.slow
def test_the_files_are_those_of_real_processes(runs, tmp_path):
    parallel = {"dp": 2, "tp": 2, "zero_stage": 1}
    runs.spread(tmp_path / "run", parallel=parallel)
    real = tmp_path / "run" / "checkpoints" / "3"
    assert reshard(real, tmp_path / "again", "dp=2", "tp=2", "zero_stage=1").returncode == 0
    for path in real.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes(), path.name


def test_wrong_calls_are_refused_in_one_line_before_anything_is_written(single, tmp_path):
    first, out = single / "checkpoints" / "6", tmp_path / "out"
    wrong = {
        ("tp=3",): "parallel.tp=3: a divisor of model.heads=4",
        ("pp=9",): "parallel.pp=9: at most model.layers=4",
        ("ep=2",): "ep=2: one of dp=NUMBER, cp=NUMBER, tp=NUMBER, pp=NUMBER, zero_stage=NUMBER",
        ("dp=0",): "dp=0",
    }
    for words, message in wrong.items():
        done = reshard(first, out, *words)
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1), done.stderr
        assert message in done.stderr
    damaged = tmp_path / "damaged"
    shutil.copytree(first, damaged)
    path = damaged / "weights-00000.safetensors"
    data = path.read_bytes()
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert "is not a whole checkpoint (weights-00000" in reshard(damaged, out).stderr
    state = json.loads((damaged / "state.json").read_text())
    (damaged / "state.json").write_text(json.dumps(state | {"format": 1}))
    assert "is not a whole checkpoint (no state.json" in reshard(damaged, out).stderr
    assert "there is something already" in reshard(first, damaged).stderr
    assert not out.exists()
