"""How the processes of a run find each other, and what stops them."""

import subprocess
import sys

import pytest

from llmhpc import processes
from llmhpc.config import Resources
from llmhpc.errors import PeerLostError, StageError
from llmhpc.processes import find_place


@pytest.mark.parametrize(
    ("environment", "launcher"),
    [
        ({"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1"}, "torchrun"),
        (
            {
                "SUBMITIT_LOCAL_GLOBALID": "3",
                "SUBMITIT_LOCAL_NTASKS": "4",
                "SUBMITIT_LOCAL_LOCALID": "1",
            },
            "submitit",
        ),
        ({"SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"}, "slurm"),
    ],
)
def test_a_process_knows_its_place_from_whoever_started_it(environment, launcher):
    place = find_place(4, Resources(), environment)
    assert (place.rank, place.size, place.local_rank, place.launcher) == (3, 4, 1, launcher)


def test_a_run_on_one_machine_inside_an_allocation_is_not_taken_for_slurm_s():
    inner = {"SUBMITIT_LOCAL_GLOBALID": "1", "SUBMITIT_LOCAL_NTASKS": "2"}
    outer = {"SLURM_PROCID": "0", "SLURM_NTASKS": "1"}
    assert find_place(2, Resources(), inner | outer).rank == 1


def test_one_process_needs_no_launcher():
    assert find_place(1, Resources(), {"SLURM_PROCID": "2", "SLURM_NTASKS": "4"}).size == 1


def test_a_lonely_process_of_a_larger_layout_is_told_how_to_start():
    with pytest.raises(StageError, match="torchrun --nproc_per_node=4 -m llmhpc.step DIR"):
        find_place(4, Resources(), {})


def test_a_launcher_of_another_size_is_refused():
    with pytest.raises(
        StageError, match="torchrun started 2 processes, the layout of this step has 4"
    ):
        find_place(4, Resources(), {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"})


@pytest.mark.slow
def test_torchrun_by_hand_trains_and_seals(runs, single, tmp_path):
    home = tmp_path / "run"
    runs.order(home, parallel={"dp": 2})
    command = [
        *(sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2"),
        *("--rdzv-backend=c10d", "--rdzv-endpoint=localhost:0", "-m", "llmhpc.step", str(home)),
    ]
    subprocess.run(command, check=True, capture_output=True, timeout=240)
    assert (home / "manifest.json").exists()
    for one, other in zip(runs.records(home), runs.records(single), strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5


def test_who_never_comes_is_not_waited_for_without_end(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "MEETING_S", 1)
    for name, value in {"JOB_ID": "7", "NTASKS": "2", "GLOBALID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SUBMITIT_LOCAL_{name}", value)
    with (
        pytest.raises(PeerLostError, match="1 of 2 processes came within 1 s"),
        processes.joined(2, Resources(), tmp_path),
    ):
        pytest.fail("alone")
    monkeypatch.setenv("SUBMITIT_LOCAL_GLOBALID", "1")
    monkeypatch.setenv("SUBMITIT_LOCAL_JOB_ID", "8")
    with (
        pytest.raises(PeerLostError, match="process 0 did not write .* within 1 s"),
        processes.joined(2, Resources(), tmp_path),
    ):
        pytest.fail("alone")


@pytest.mark.slow
def test_two_runs_at_once_on_a_machine_do_not_meet(runs, tmp_path):
    both = [runs.start(tmp_path / name, parallel={"dp": 2}) for name in ("one", "other")]
    for run in both:
        run.finish()
    one, other = (runs.records(tmp_path / name) for name in ("one", "other"))
    assert [r["loss"] for r in one] == [r["loss"] for r in other]


def test_a_loss_that_is_not_finite_stops_training_at_once(runs, tmp_path):
    with pytest.raises(StageError, match=r"step \d: loss .*(nan|inf).*; try a smaller"):
        runs.here(tmp_path / "run", schedule={"lr": 1e30, "min_lr": 0.0, "clip_norm": 0.0})


def test_training_learns_and_counts_what_it_did(runs, single):
    from llmhpc.files import read_json

    counts = read_json(single / "manifest.json")["counts"]
    assert counts["steps"] == 8
    assert counts["tokens"] == 8 * 256
    assert counts["parameters"] == runs.settings().model.parameters()
    assert counts["final_loss"] < counts["first_loss"]
    records = runs.records(single)
    assert [r["step"] for r in records] == list(range(1, 9))
    assert set(records[0]) == {
        *("step", "tokens", "loss", "lr", "grad_norm", "tokens_per_second", "seconds", "flops"),
        *("memory_gb", "data_wait_s", "communication_share", "checkpoint_stall_s"),
    }
    layout = read_json(single / "layout.json")
    assert (layout["processes"], layout["device"], layout["micro_batches"]) == (1, "cpu", 4)
    assert layout["attention"].startswith("sdpa: flash-attn needs CUDA")
    assert list((single / "tensorboard").glob("events.*"))


def test_a_step_that_was_edited_is_refused_unless_asked_for(runs, tmp_path, monkeypatch):
    import json

    import pytest

    from llmhpc.errors import ArtifactError
    from llmhpc.step import run_task

    home = tmp_path / "run"
    runs.order(home)
    order = json.loads((home / "step.json").read_text())
    order["config"]["schedule"]["steps"] = 2
    (home / "step.json").write_text(json.dumps(order))
    with pytest.raises(ArtifactError, match="step.json was edited: fingerprint="):
        run_task(home, "main", 0)
    assert not (home / "attempts").exists()
    monkeypatch.setenv("LLMHPC_EDITED_STEP", "1")
    run_task(home, "main", 0)
    assert len(runs.records(home)) == 2
