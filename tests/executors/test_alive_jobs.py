"""Which jobs of a step that is not whole are waited for, and which are submitted again."""

from types import SimpleNamespace

import pytest

from llmhpc.config import Phase
from llmhpc.executors.slurm import _alive_jobs
from llmhpc.files import write_json
from llmhpc.handoff import artifact
from llmhpc.scheduler import Job


@pytest.mark.parametrize(
    ("state", "alive"), [("COMPLETED", True), ("RUNNING", True), ("CANCELLED", False), (None, True)]
)
def test_jobs_behind_a_gate_that_ended_badly_are_not_alive(state, alive, tmp_path):
    """The gate's step may be whole all the same: it was killed after it had sealed it."""
    stage = SimpleNamespace(phases=lambda: [Phase("main", 2)])
    jobs = {"submitted": True, "after": ["7"], "tasks": [], "gates": {"main": "9"}, "rescues": []}
    write_json(tmp_path / artifact.JOBS, jobs)
    queue = {"9": Job("PENDING", "", 0.0)}
    if state is not None:  # None: Slurm has forgotten it
        queue["7"] = Job(state, "", 0.0)
    found = _alive_jobs(SimpleNamespace(out=tmp_path, stage=stage), [], queue)
    assert found == (jobs if alive else None)
