"""What is said of the inside of the network: the same in every layout, and no change to what is learnt."""

import json
import math
from dataclasses import replace

import pytest

from llmhpc.errors import ConfigError
from llmhpc.train.lines import Lines, read_lines
from llmhpc.train.settings import MixturePhase, TensorMode
from llmhpc.train.watch import group_of

from .conftest import Runs

LAYOUTS = {
    "dp2 zero": {"dp": 2, "zero_stage": 1},
    "tp2 sequence cut": {"tp": 2, "tp_mode": TensorMode.REDUCE_SCATTER},
    "pp2": {"pp": 2},
}
BOUND = 1e-3  # relative: kurtosis is made of fourth powers


def lines(home):
    return [json.loads(line) for line in (home / "watch.jsonl").read_text().splitlines()]


def numbers(record, path=()):
    """Every number of a record by its path."""
    if not isinstance(record, dict):
        return {path: record}
    return {k: v for key, value in record.items() for k, v in numbers(value, (*path, key)).items()}


@pytest.fixture(scope="module")
def mixed(inputs):
    """Trainings on two sources (of the same tokens), whose losses are told apart."""
    made = Runs(inputs | {"code": inputs["tokens"]})
    weights = {"tokens": 0.75, "code": 0.25}
    made.base = replace(
        made.base,
        needs=made.base.needs | {"code": "code"},
        schedule=replace(made.base.schedule, phases=[MixturePhase(weights=weights)]),
        watch_every=4,
    )
    return made


@pytest.fixture(scope="module")
def watched(mixed, tmp_path_factory):
    home = tmp_path_factory.mktemp("watched")
    mixed.here(home)
    return home


def test_a_look_inside_adds_up_to_what_the_metrics_say(mixed, watched):
    records = mixed.records(watched)
    seen = lines(watched)
    assert [record["step"] for record in seen] == [4, 8]
    for record in seen:
        metrics = records[record["step"] - 1]
        norms, sources = record["norms"], record["sources"]
        whole = math.sqrt(sum(norm["gradient"] ** 2 for norm in norms.values()))
        assert whole == pytest.approx(metrics["grad_norm"], rel=1e-5)
        assert all(norm["update"] > 0 and norm["weight"] > 0 for norm in norms.values())
        assert norms["norms"]["weight"] == pytest.approx(math.sqrt(64), rel=0.05)
        assert {name: one["sequences"] for name, one in sources.items()} == {"tokens": 6, "code": 2}
        mean = sum(one["loss"] * one["sequences"] for one in sources.values()) / 8
        assert mean == pytest.approx(metrics["loss"], rel=1e-5)
        for one in sources.values():
            assert one["perplexity"] == pytest.approx(math.exp(one["loss"]))
        for layer in record["activations"].values():
            assert layer["max"] > 0
            assert 1 < layer["kurtosis"] < 100


def test_the_update_is_what_adamw_makes_of_the_first_gradient(mixed, tmp_path):
    """Adam's first step is the rate in each number, whatever the gradient; norms have no weight decay."""
    mixed.here(
        tmp_path,
        watch_every=1,
        schedule={"steps": 1, "warmup_steps": 0, "lr": 1e-3, "min_lr": 1e-3},
    )
    (record,) = lines(tmp_path)
    assert record["norms"]["norms"]["update"] == pytest.approx(1e-3 * math.sqrt(64), rel=1e-3)
    assert record["norms"]["layers.0.norms"]["update"] == pytest.approx(
        1e-3 * math.sqrt(2 * 64), rel=1e-3
    )


def test_watching_changes_nothing(mixed, watched, tmp_path):
    blind = mixed.here(tmp_path, watch_every=0)
    assert not (tmp_path / "watch.jsonl").exists()
    assert [(r["loss"], r["grad_norm"]) for r in blind] == [
        (r["loss"], r["grad_norm"]) for r in mixed.records(watched)
    ]


@pytest.mark.slow
@pytest.mark.parametrize("name", LAYOUTS)
def test_every_layout_sees_the_same(name, mixed, watched, tmp_path):
    mixed.spread(tmp_path, parallel=LAYOUTS[name])
    for one, other in zip(lines(tmp_path), lines(watched), strict=True):
        mine, theirs = numbers(one), numbers(other)
        assert mine.keys() == theirs.keys()
        for path, value in mine.items():
            assert value == pytest.approx(theirs[path], rel=BOUND), path


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("embedding.table.weight", "embedding"),
        ("layers.12.qkv.weight", "layers.12.attention"),
        ("layers.0.attention_out.weight", "layers.0.attention"),
        ("layers.0.attention_norm.weight", "layers.0.norms"),
        ("layers.0.gate_up.weight", "layers.0.feed_forward"),
        ("head.norm.weight", "norms"),
        ("head.output.weight", "head"),
    ],
)
def test_a_parameter_is_of_a_part_of_its_layer(name, group):
    assert group_of(name) == group


def test_wandb_that_is_not_installed_is_said_ahead_and_by_the_run(runs, tmp_path, monkeypatch):
    import sys

    from llmhpc.train import outlook
    from llmhpc.train.boards import Boards

    monkeypatch.setitem(sys.modules, "wandb", None)  # as if it were not installed
    with pytest.raises(ConfigError, match="wandb=true: the package wandb is not installed"):
        Boards(tmp_path, 0, wandb=True)
    assert not list(outlook.boards(wandb=False))
    (finding,) = outlook.boards(wandb=True)
    assert "pip install wandb" in finding.message


def test_records_of_steps_that_are_made_again_are_dropped(tmp_path):
    path = tmp_path / "watch.jsonl"
    path.write_text('{"step": 4}\n{"step": 8}\n{"step": 12}\n{"ste')
    file = Lines(path, resumed_step=8)
    file.write({"step": 12, "again": True})
    file.close()
    assert read_lines(path) == [{"step": 4}, {"step": 8}, {"step": 12, "again": True}]
