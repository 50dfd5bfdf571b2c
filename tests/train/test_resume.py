"""Killed at any moment and started again: the same losses, to the last bit."""

import json
import shutil

import pytest

from llmhpc.errors import StageError
from llmhpc.files import read_json
from llmhpc.models.llama import Config as Llama
from llmhpc.train.settings import TensorMode


def exact(records):
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"]) for r in records]


def test_a_killed_run_goes_on_as_if_nothing_had_happened(runs, single, tmp_path):
    home = tmp_path / "run"
    runs.start(home).kill_after(step=5, saved=3)
    again = runs.here(home)
    assert exact(again) == exact(runs.records(single))
    assert [e["step"] for e in read_json(home / "exports.json")] == [3, 6, 8]
    assert json.loads((home / "checkpoints" / "latest.txt").read_text()) == 8


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"dp": 2, "zero_stage": 1}, {"tp": 2}, {"pp": 2}])
def test_a_killed_layout_goes_on_as_if_nothing_had_happened(parallel, runs, tmp_path):
    whole = runs.spread(tmp_path / "whole", parallel=parallel)
    runs.start(tmp_path / "run", parallel=parallel).kill_after(step=7, saved=6)
    assert exact(runs.spread(tmp_path / "run", parallel=parallel)) == exact(whole)


@pytest.mark.slow
def test_a_killed_run_in_bfloat16_goes_on_with_its_float32_weights(runs, tmp_path):
    from llmhpc.train.settings import Precision

    schedule = {"precision": Precision.bfloat16}
    whole = runs.here(tmp_path / "whole", schedule=schedule)
    runs.start(tmp_path / "run", schedule=schedule).kill_after(step=7, saved=6)
    assert exact(runs.here(tmp_path / "run", schedule=schedule)) == exact(whole)


def unsealed(home):
    """The run as if the job had been killed before its end."""
    for name in ("ranks", "manifest.json"):
        path = home / name
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def first_of(pattern, folder):
    return next(iter(sorted(folder.glob(pattern))))


@pytest.mark.parametrize("name", ["weights", "optimizer"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_a_damaged_checkpoint_is_passed_over_and_made_again(
    name, damage, runs, single, tmp_path, caplog
):
    home = tmp_path / "run"
    shutil.copytree(single, home)
    path = first_of(f"{name}-*.safetensors", home / "checkpoints" / "8")
    data = path.read_bytes()
    if damage == "flipped":  # one bit of the numbers
        path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    elif damage == "cut":
        path.write_bytes(data[:-1])
    else:
        path.unlink()
    unsealed(home)
    (home / "checkpoints" / "8.partial-0123").mkdir()
    (home / "exports" / "000008.partial").mkdir()
    assert exact(runs.here(home)) == exact(runs.records(single))
    assert "8 is damaged" in caplog.text
    assert not list(home.rglob("*.partial*"))
    assert (home / "manifest.json").exists()
    assert path.read_bytes() == data


@pytest.mark.slow
@pytest.mark.parametrize("cut", ["state.json", "index.json"])
def test_a_checkpoint_without_its_records_is_passed_over(cut, runs, single, tmp_path, caplog):
    home = tmp_path / "run"
    shutil.copytree(single, home)
    (home / "checkpoints" / "8" / cut).unlink()
    unsealed(home)
    assert exact(runs.here(home)) == exact(runs.records(single))
    assert "8 is damaged" in caplog.text


def test_a_checkpoint_of_another_model_is_refused_with_the_first_setting_that_differs(single):
    from dataclasses import replace

    from llmhpc.train.checkpoints import check_model

    model = Llama(vocab_size=128, hidden_size=64, layers=4, intermediate_size=96)
    check_model(single / "checkpoints" / "3", model)
    with pytest.raises(
        StageError, match=r"model\.layers=6: 4, as .*checkpoints/3 was trained with"
    ):
        check_model(single / "checkpoints" / "3", replace(model, layers=6, heads=2))


CUT = TensorMode.REDUCE_SCATTER
CHANGES = {  # the layout that wrote the checkpoint, and the one that goes on
    "one to dp2": ({}, {"dp": 2}),
    "one to dp2 zero": ({}, {"dp": 2, "zero_stage": 1}),
    "one to tp2": ({}, {"tp": 2}),
    "one to tp2 sequence cut": ({}, {"tp": 2, "tp_mode": CUT}),
    "one to pp2": ({}, {"pp": 2}),
    "one to tp2 pp2": ({}, {"tp": 2, "pp": 2}),
    "dp2 zero to one": ({"dp": 2, "zero_stage": 1}, {}),
    "dp2 zero to dp4 zero": ({"dp": 2, "zero_stage": 1}, {"dp": 4, "zero_stage": 1}),
    "dp2 zero to pp2": ({"dp": 2, "zero_stage": 1}, {"pp": 2}),
    "tp2 to one": ({"tp": 2}, {}),
    "tp2 to dp2 zero": ({"tp": 2}, {"dp": 2, "zero_stage": 1}),
    "pp2 to tp2 sequence cut": ({"pp": 2}, {"tp": 2, "tp_mode": CUT}),
    "tp2 pp2 to dp2": ({"tp": 2, "pp": 2}, {"dp": 2}),
    "dp2 tp2 zero to pp2": ({"dp": 2, "tp": 2, "zero_stage": 1}, {"pp": 2}),
}


@pytest.fixture(scope="module")
def stopped(runs, single, tmp_path_factory):
    """The run of each layout as it was after step 3."""
    made = {}

    def of(parallel):
        key = str(sorted(parallel.items(), key=str))
        if key not in made:
            made[key] = home = tmp_path_factory.mktemp("stopped")
            if parallel:
                runs.spread(home, parallel=parallel)
            else:
                shutil.copytree(single, home, dirs_exist_ok=True)
            unsealed(home)
            for step in ("6", "8"):
                shutil.rmtree(home / "checkpoints" / step)
        return made[key]

    return of


@pytest.mark.slow
@pytest.mark.parametrize("change", CHANGES)
def test_any_layout_goes_on_from_a_checkpoint_of_any_other(change, runs, single, stopped, tmp_path):
    before, after = CHANGES[change]
    home = tmp_path / "run"
    shutil.copytree(stopped(before), home)
    records = runs.spread(home, parallel=after)
    for one, other in zip(records, runs.records(single), strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5
        assert abs(one["grad_norm"] - other["grad_norm"]) < 1e-4


@pytest.mark.slow
def test_halves_of_sequences_go_on_whole_and_in_halves_again(runs, single, tmp_path):
    home, halves = tmp_path / "run", {"cp": 2, "zero_stage": 1}
    runs.start(home, parallel=halves).kill_after(step=3, saved=3)
    runs.start(home).kill_after(step=6, saved=6)
    for one, other in zip(runs.spread(home, parallel=halves), runs.records(single), strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5
        assert abs(one["grad_norm"] - other["grad_norm"]) < 1e-4
