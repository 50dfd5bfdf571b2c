"""The z-loss is the published formula however the vocabulary is cut, and beside the loss that is reported."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import pytest

VOCABULARY = 128  # of the fixtures' tokens
CUT_LOSS = Path(__file__).with_name("cut_loss.py")


def test_losses_and_gradients_of_a_cut_vocabulary_are_those_of_the_formulas():
    start = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2", str(CUT_LOSS)]
    done = subprocess.run(
        [sys.executable, *start],
        check=False, capture_output=True, text=True, timeout=120, env=os.environ | {"OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    line = next(line for line in done.stdout.splitlines() if line.startswith("differences"))
    for found in json.loads(line.partition(" ")[2]).values():
        assert found["cross_entropy"] < 2e-6
        assert found["z_loss"] < 2e-6
        assert found["gradient"] < 1e-6 * found["largest"]


def test_the_z_loss_is_recorded_beside_the_loss_and_draws_log_z_to_zero(runs, single, tmp_path):
    without = runs.records(single)
    weak = runs.here(tmp_path / "weak", schedule={"z_loss": 1e-9})
    strong = runs.here(tmp_path / "strong", schedule={"z_loss": 1.0})
    assert strong[0]["loss"] == weak[0]["loss"] == without[0]["loss"]
    assert "z_loss" not in without[0]
    log_z_squared = [record["z_loss"] * 1e9 for record in weak]
    assert strong[0]["z_loss"] == pytest.approx(log_z_squared[0], rel=1e-5)
    assert strong[0]["z_loss"] == pytest.approx(math.log(VOCABULARY) ** 2, rel=0.05)  # all alike
    assert strong[-1]["z_loss"] < log_z_squared[-1] - 1
