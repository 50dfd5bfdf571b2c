"""nanotron's git HEAD trains as 0.4 does: NANOTRON_HEAD=nanotron/src pytest -m slow tests/train/test_nanotron_head.py."""

import os
import subprocess
import sys

import pytest

from .test_layouts import assert_same, layout

HEAD = os.environ.get("NANOTRON_HEAD", "")
CUT = {"tp": 2, "tp_mode": "REDUCE_SCATTER"}
WHICH = (
    "from nanotron.parallel.context import ParallelContext as c; print(c.__init__.__annotations__)"
)


@pytest.mark.slow
@pytest.mark.skipif(not HEAD, reason="NANOTRON_HEAD is not set: the src of a clone")
@pytest.mark.parametrize("choice", [CUT, {**CUT, "cp": 2}, {"pp": 2, "dp": 2, "zero_stage": 1}])
def test_a_layout_on_the_head_trains_as_one_process_on_the_release(
    choice, runs, single, tmp_path, monkeypatch
):
    monkeypatch.setenv("PYTHONPATH", HEAD)
    used = subprocess.run([sys.executable, "-c", WHICH], capture_output=True, text=True, check=True)
    assert "context_parallel_size" in used.stdout
    assert_same(runs.spread(tmp_path / "run", parallel=layout(choice)), runs.records(single))
