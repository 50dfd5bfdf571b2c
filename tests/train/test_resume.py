"""Killed at any moment and started again: the same losses, to the last bit."""

import json
import shutil

import pytest

from llmhpc.errors import StageError
from llmhpc.files import read_json


def exact(records):
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"]) for r in records]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(runs, single, tmp_path):
    home = tmp_path / "run"
    runs.start(home).kill_after(step=5)
    assert (home / "checkpoints" / "3").exists()
    again = runs.here(home)
    assert exact(again) == exact(runs.records(single))
    assert [e["step"] for e in read_json(home / "exports.json")] == [3, 6, 8]
    assert json.loads((home / "checkpoints" / "latest.txt").read_text()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"dp": 2, "zero_stage": 1}, {"tp": 2}, {"pp": 2}])
def test_a_killed_layout_goes_on_as_if_nothing_had_happened(parallel, runs, tmp_path):
    whole = runs.spread(tmp_path / "whole", parallel=parallel)
    runs.start(tmp_path / "run", parallel=parallel).kill_after(step=7)
    assert exact(runs.spread(tmp_path / "run", parallel=parallel)) == exact(whole)


@pytest.mark.slow
def test_a_killed_run_in_bfloat16_goes_on_with_its_float32_weights(runs, tmp_path):
    from llmhpc.train.settings import Precision

    schedule = {"precision": Precision.bfloat16}
    whole = runs.here(tmp_path / "whole", schedule=schedule)
    runs.start(tmp_path / "run", schedule=schedule).kill_after(step=7)
    assert exact(runs.here(tmp_path / "run", schedule=schedule)) == exact(whole)


def test_a_damaged_checkpoint_is_passed_over_and_made_again(runs, single, tmp_path, caplog):
    home = tmp_path / "run"
    shutil.copytree(single, home)
    cut = next((home / "checkpoints" / "8" / "optimizer").glob("*.pt"))
    cut.write_bytes(cut.read_bytes()[:-1])
    for name in ("ranks", "manifest.json"):
        path = home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (home / "checkpoints" / "8.partial").mkdir()
    (home / "exports" / "000008.partial").mkdir()
    assert exact(runs.here(home)) == exact(runs.records(single))
    assert "8 is damaged" in caplog.text
    assert not list(home.rglob("*.partial"))
    assert (home / "manifest.json").exists()


def test_a_checkpoint_of_another_layout_is_refused_in_one_line(single):
    from llmhpc.train.checkpoints import check_layout
    from llmhpc.train.settings import Parallel

    check_layout(single / "checkpoints" / "3", Parallel(dp=4))
    with pytest.raises(StageError) as caught:
        check_layout(single / "checkpoints" / "3", Parallel(tp=2))
    assert "was written as dp=1 tp=1 pp=1 zero_stage=0, this run is dp=1 tp=2" in str(caught.value)


@pytest.mark.slow
def test_another_number_of_replicas_goes_on_from_a_checkpoint(runs, single, tmp_path):
    home = tmp_path / "run"
    shutil.copytree(single, home)
    for step in ("6", "8"):
        shutil.rmtree(home / "checkpoints" / step)
    shutil.rmtree(home / "ranks")
    (home / "manifest.json").unlink()
    records = runs.spread(home, parallel={"dp": 2})
    for one, other in zip(records, runs.records(single), strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5
