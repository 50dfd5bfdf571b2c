"""The plan is pure: the same settings give the same steps, a change makes only what is downstream again."""

from dataclasses import dataclass, field
from typing import ClassVar

import pytest

from llmhpc.config import Config, Resources, Stage
from llmhpc.errors import ConfigError
from llmhpc.planning.compose import compose, points
from llmhpc.planning.plan import fingerprint, plain, plan, union


@dataclass(kw_only=True, slots=True)
class Source(Stage):
    kind: str = "source"
    pages: int = 3


@dataclass(kw_only=True, slots=True)
class Reader(Stage):
    roles: ClassVar[dict[str, str]] = {"documents": "what it reads"}
    kind: str = "reader"
    threshold: float = 0.5


@dataclass(kw_only=True, slots=True)
class Seeded(Reader):
    seeded: ClassVar[bool] = True
    kind: str = "seeded"


def run(**changes) -> Config:
    stages = {
        "a": Source(),
        "b": Reader(needs={"documents": "a"}),
        "c": Seeded(needs={"documents": "b"}),
    }
    return Config(name="t", root="/r", stages=stages, **changes)


def fingerprints(cfg: Config) -> dict[str, str]:
    return {step.name: step.fingerprint for step in plan(cfg)}


def test_the_same_settings_give_the_same_steps():
    assert plan(run()) == plan(run())


def test_a_changed_threshold_makes_only_what_is_downstream_again():
    old, cfg = fingerprints(run()), run()
    cfg.stages["b"].threshold = 0.6
    new = fingerprints(cfg)
    assert {name for name in old if old[name] != new[name]} == {"b", "c"}


def test_where_it_runs_does_not_change_what_it_makes():
    cfg = run()
    cfg.stages["a"].resources = Resources(cpus=8, mem_gb=64)
    assert fingerprints(cfg) == fingerprints(run())


def test_a_seed_changes_only_what_uses_it():
    old, new = fingerprints(run()), fingerprints(run(seed=1))
    assert {name for name in old if old[name] != new[name]} == {"c"}


def test_stages_in_a_circle_are_named():
    cfg = run()
    cfg.stages["b"].needs = {"documents": "c"}
    with pytest.raises(ConfigError, match="circle, b -> c -> b|circle, c -> b -> c"):
        plan(cfg)


def test_an_unknown_need_lists_what_there_is():
    cfg = run()
    cfg.stages["b"].needs = {"documents": "nothing"}
    with pytest.raises(ConfigError, match=r"stages.b.needs.documents=nothing: .*a, b, c"):
        plan(cfg)


def test_a_role_that_nobody_plays_says_what_it_wants():
    cfg = run()
    cfg.stages["b"].needs = {}
    with pytest.raises(ConfigError, match="stages.b.needs.documents is not set: what it reads"):
        plan(cfg)


def test_a_role_that_the_stage_does_not_know_is_refused():
    cfg = run()
    cfg.stages["b"].needs = {"documents": "a", "pages": "a"}
    with pytest.raises(ConfigError, match="stages.b.needs.pages: reader knows documents"):
        plan(cfg)


def test_ranks_of_less_than_one_are_refused():
    with pytest.raises(ConfigError, match="ranks=0: 1 or more"):
        Source(ranks=0)


def test_resources_are_checked():
    with pytest.raises(ConfigError, match="timeout_min=0: 1 or more"):
        Resources(timeout_min=0)
    with pytest.raises(ConfigError, match="mem_gb=0.01: 0.1 or more"):
        Resources(mem_gb=0.01)


@dataclass(kw_only=True, slots=True)
class Choosy(Reader):
    kind: str = "choosy"
    limits: list[int] = field(default_factory=list)

    def check_with(self, played_by: dict[str, Stage]) -> None:
        if played_by["documents"].pages < 4:
            raise ConfigError(f"needs.documents: {played_by['documents'].pages} pages; 4 or more")


def test_a_stage_can_refuse_what_plays_its_role():
    cfg = run()
    cfg.stages["b"] = Choosy(needs={"documents": "a"})
    with pytest.raises(ConfigError, match="stages.b.needs.documents: 3 pages; 4 or more"):
        plan(cfg)


def test_points_of_a_sweep_share_the_steps_that_are_the_same():
    steps = union([plan(run(seed=seed)) for seed in (0, 1, 2)])
    assert [step.name for step in steps] == ["a", "b", "c", "c", "c"]
    assert len({step.out for step in steps}) == 5


def test_every_combination_of_listed_values_is_a_point():
    found = points(["seed=1,2", "stages.filter.ranks=2,3", "name=x"])
    assert list(found) == [
        "seed=1 stages.filter.ranks=2", "seed=1 stages.filter.ranks=3",
        "seed=2 stages.filter.ranks=2", "seed=2 stages.filter.ranks=3",
    ]  # fmt: skip
    assert [cfg.seed for cfg in found.values()] == [1, 1, 2, 2]
    with pytest.raises(ConfigError, match="seed=x"):
        points(["seed=1,x"])


def test_a_fingerprint_is_that_of_settings_inputs_and_seed():
    step = plan(run(seed=3))[2]
    inputs = {role: path.name.rpartition("-")[2] for role, path in step.inputs.items()}
    assert fingerprint(plain(step.stage, identity_only=True), inputs, 3) == step.fingerprint


@pytest.mark.parametrize("name", ["a b", "a/b", "$(x)", "a\nb", "\u00e9'"])
def test_a_name_that_could_reach_a_shell_is_refused(name):
    with pytest.raises(ConfigError, match="letters, digits"):
        Config(name=name)
    with pytest.raises(ConfigError, match="letters, digits"):
        Config(name="good", stages={name: Source()})


@pytest.mark.parametrize(
    "override",
    [
        "cluster.slurm.reservation=x",
        "+cluster.slurm.reservation=x",
        "cluster.slurm={reservation: x}",
    ],
)
def test_a_table_of_free_keys_takes_any(override):
    assert compose([override]).cluster.slurm == {"reservation": "x"}


@dataclass(kw_only=True, slots=True)
class Judge(Stage):
    gathers: ClassVar[bool] = True
    kind: str = "judge"


def with_copies(seeds: int, seed: int = 0) -> Config:
    cfg = run(seed=seed)
    cfg.stages["c"].seeds = seeds
    cfg.stages["d"] = Reader(needs={"documents": "c"})
    cfg.stages["e"] = Judge(needs={"old": "b", "new": "d"})
    return cfg


def test_copies_go_on_behind_a_stage_with_seeds_until_one_gathers_them():
    steps = plan(with_copies(3))
    assert [step.name for step in steps] == ["a", "b", "c", "c", "c", "d", "d", "d", "e"]
    assert [step.seed for step in steps if step.name == "c"] == [0, 1, 2]
    assert [list(step.inputs.values()) for step in steps if step.name == "d"] == [
        [step.out] for step in steps if step.name == "c"
    ]
    assert list(steps[-1].inputs) == ["new.0", "new.1", "new.2", "old.0"]
    assert len({step.out for step in steps}) == 9


def test_a_copy_is_the_step_of_a_run_with_that_seed():
    copies = {step.out for step in plan(with_copies(3)) if step.name in "cd"}
    alone = {step.out for step in plan(with_copies(1, seed=2)) if step.name in "cd"}
    assert alone < copies


@pytest.mark.parametrize(
    ("stage", "seeds", "message"),
    [
        ("b", 2, "stages.b.seeds=2: 1, a seed changes nothing here"),
        ("d", 2, "stages.d.seeds=2: its inputs have 2, 3 copies; the same number for all"),
    ],
)
def test_seeds_that_make_no_sense_are_refused(stage, seeds, message):
    cfg = with_copies(3)
    cfg.stages["d"] = Seeded(needs={"documents": "c"})
    cfg.stages[stage].seeds = seeds
    with pytest.raises(ConfigError, match=message):
        plan(cfg)
