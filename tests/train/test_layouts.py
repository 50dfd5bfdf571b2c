"""Same seed, same batches: every layout has the same losses."""

import pytest

from llmhpc.files import read_json

LOSS_BOUND = 1e-5
LAYOUTS = {
    "tp2": {"tp": 2},
    "tp2 sequence cut": {"tp": 2, "tp_mode": "REDUCE_SCATTER"},
    "pp2": {"pp": 2},
    "pp2 afab": {"pp": 2, "pp_order": "all_forward_all_backward"},
    "pp4": {"pp": 4},
    "dp2 zero": {"dp": 2, "zero_stage": 1},
    "dp2 pp2": {"dp": 2, "pp": 2},
    "tp2 pp2 sequence cut": {"tp": 2, "pp": 2, "tp_mode": "REDUCE_SCATTER"},
    "dp2 tp2 zero": {"dp": 2, "tp": 2, "zero_stage": 1},
    "recompute": {"recompute": True},
    "dp2 cp2 zero": {"dp": 2, "cp": 2, "zero_stage": 1},
    "cp2 tp2 sequence cut": {"cp": 2, "tp": 2, "tp_mode": "REDUCE_SCATTER"},
    "cp2 pp2": {"cp": 2, "pp": 2},
}


def layout(choice):
    from llmhpc.train.settings import PipelineOrder, TensorMode

    kinds = {"tp_mode": TensorMode, "pp_order": PipelineOrder}
    return {key: kinds[key][value] if key in kinds else value for key, value in choice.items()}


def assert_same(records, expected, bound=LOSS_BOUND):
    assert [r["step"] for r in records] == [r["step"] for r in expected]
    for one, other in zip(records, expected, strict=True):
        assert abs(one["loss"] - other["loss"]) < bound, (one, other)
        assert abs(one["grad_norm"] - other["grad_norm"]) < 10 * bound, (one, other)
        assert abs(one.get("z_loss", 0) - other.get("z_loss", 0)) < bound, (one, other)
        assert one["lr"] == other["lr"]


def test_two_halves_of_sequences_train_as_one_process(runs, single, tmp_path):
    assert_same(runs.spread(tmp_path / "run", parallel={"cp": 2}), runs.records(single))


def test_two_replicas_train_as_one_process(runs, single, tmp_path):
    assert_same(runs.spread(tmp_path / "run", parallel={"dp": 2}), runs.records(single))
    measured = read_json(tmp_path / "run" / "health.json")["processes"]
    assert all(one["host"] and one["tflops"] > 0 and one["all_reduce_gb_s"] > 0 for one in measured)
    assert [one["link_gb_s"] is None for one in measured] == [False, True], "one link of two"
    assert not (single / "health.json").exists(), "one process has none to be compared with"


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_a_layout_trains_as_one_process(name, runs, single, tmp_path):
    records = runs.spread(tmp_path / "run", parallel=layout(LAYOUTS[name]))
    assert_same(records, runs.records(single))


@pytest.mark.slow
def test_four_processes_train_untied_embeddings_as_one(runs, tmp_path):
    model = {"tied_embeddings": False, "kv_heads": 4}
    one = runs.here(tmp_path / "one", model=model)
    four = runs.spread(tmp_path / "four", model=model, parallel={"tp": 2, "pp": 2})
    assert_same(four, one)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tp2 pp2 sequence cut", "dp2 zero"])
def test_a_layout_trains_with_mup_multipliers_and_z_loss_as_one_process(name, runs, tmp_path):
    own = {
        "model": {"mup_base_width": 16, "embedding_multiplier": 6.0, "scale_depth": 1.4},
        "schedule": {"z_loss": 0.01},
    }
    one = runs.here(tmp_path / "one", **own)
    assert one[0]["z_loss"] > 0.1
    assert_same(runs.spread(tmp_path / "run", parallel=layout(LAYOUTS[name]), **own), one)


@pytest.mark.slow
@pytest.mark.parametrize("zero_stage", [0, 1])
def test_replicas_in_bfloat16_with_float32_gradients_train_as_one(zero_stage, runs, tmp_path):
    from llmhpc.train.settings import Precision

    schedule = {"precision": Precision.bfloat16}
    one = runs.here(tmp_path / "one", schedule=schedule)
    two = runs.spread(
        tmp_path / "two", schedule=schedule, parallel={"dp": 2, "zero_stage": zero_stage}
    )
    assert_same(two, one)
