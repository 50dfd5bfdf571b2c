"""The record of a launch: steps that are there several times are told apart by their seeds."""

import pytest

from llmhpc.errors import ConfigError
from llmhpc.handoff import runs
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plan
from llmhpc.status import rows


@pytest.fixture
def launched(tmp_path):
    """The record of an ablation of two seeds that nobody has begun."""
    cfg = compose(["pipeline=ablation", "stages.train.seeds=2", "seed=4", f"root={tmp_path}"])
    return runs.write({"": cfg}, plan(cfg))


def test_copies_are_told_by_their_seeds(launched):
    seeds = [(row["name"], row["seed"]) for row in rows(launched)]
    several = [name for name, seed in seeds if seed is not None]
    assert several == [n for n in ("train", "raw_train", "evaluate", "raw_evaluate") for _ in "12"]
    assert [seed for name, seed in seeds if name == "evaluate"] == [4, 5]
    assert dict(seeds)["verdict"] is None


def test_a_name_that_several_copies_have_is_asked_back(launched, tmp_path):
    first, second = (path for path in runs.homes(launched) if path.name.startswith("evaluate-"))
    with pytest.raises(ConfigError) as error:
        runs.home_of(tmp_path, "", "evaluate")
    said = f"step evaluate: one of {first.name} (seed 4), {second.name} (seed 5)"
    assert str(error.value) == said
    assert runs.home_of(tmp_path, "", second.name) == second
