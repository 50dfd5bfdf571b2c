"""The code of a run is copied once, is whole, and says where it came from."""

import os
import subprocess
import sys

from llmhpc.executors import snapshot
from llmhpc.handoff import provenance


def test_a_snapshot_can_run_a_launcher_by_itself(tmp_path):
    code = snapshot.take(tmp_path)
    where = "import llmhpc, llmhpc.jobs.train, llmhpc.kernels; print(llmhpc.__file__, llmhpc.jobs.train.__file__)"
    environment = os.environ | {"PYTHONPATH": str(code)}
    ask = [sys.executable, "-c", where]
    out = subprocess.check_output(ask, text=True, env=environment, cwd=tmp_path)
    assert out.split() == [f"{code}/llmhpc/__init__.py", f"{code}/llmhpc/jobs/train.py"]
    plan = [sys.executable, "-m", "llmhpc.launch", "dry_run=true", f"root={tmp_path / 'r'}"]
    assert "steps to run" in subprocess.check_output(plan, text=True, env=environment, cwd=tmp_path)


def test_the_same_code_is_copied_once(tmp_path):
    assert snapshot.take(tmp_path) == snapshot.take(tmp_path)
    assert len(list((tmp_path / "code").iterdir())) == 1


def test_a_snapshot_knows_its_commit(tmp_path):
    code = snapshot.take(tmp_path)
    assert (code / "commit.txt").read_text() == provenance.commit()
    ask = "from llmhpc.handoff import provenance; print(provenance.commit())"
    environment = os.environ | {"PYTHONPATH": str(code)}
    command = [sys.executable, "-c", ask]
    out = subprocess.check_output(command, text=True, env=environment, cwd=tmp_path)
    assert out.strip() == provenance.commit()
