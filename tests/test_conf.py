"""Every YAML in conf/ composes and plans; every step survives its JSON; every setting is read by somebody."""

import json
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from llmhpc.config import Cluster, Resources, Stage
from llmhpc.errors import ConfigError
from llmhpc.models.llama import Config as Llama
from llmhpc.planning.compose import compose
from llmhpc.planning.plan import plain, plan
from llmhpc.planning.registry import GROUPS, load, options, revive
from llmhpc.train import outlook
from llmhpc.train.settings import Parallel

ROOT = Path(__file__).parents[1]
CONF = ROOT / "conf"


def _numberless(name: str) -> str:
    """A pattern for a field's name, in which a number may be computed."""
    return re.sub(r"\d+", r"(\\d+|\\{\\w+\\})", name)


MUST_BE_SET = {
    "html": ["stages.collect.source.folder=pages"],
    "wikipedia": ["stages.collect.source.dump=wiki.xml.bz2"],
    "code": ["stages.collect.source.folder=repositories"],
    "books": ["stages.collect.source.folder=books"],
    "hub": ["stages.collect.source.name=some/set"],
    "wet": ["stages.collect.source.dump=CC-MAIN-2024-10"],
    "commoncrawl": ["stages.collect.source.dump=CC-MAIN-2024-10"],
    "folder": ["stages.tokenizer.folder=models/mine"],
    "pretrain": ["model=llama_1b"],
    "cosmopedia": ["stages.generate.backend.model=m"],
    "rephrase": ["stages.generate.backend.model=m"],
}


def choices(folder: str) -> list[str]:
    return sorted(path.stem for path in (CONF / folder).glob("*.yaml"))


@pytest.mark.parametrize("pipeline", choices("pipeline"))
def test_every_pipeline_plans(pipeline):
    assert plan(compose([f"pipeline={pipeline}"]))


@pytest.mark.parametrize("cluster", choices("cluster"))
def test_every_cluster_plans(cluster):
    assert plan(compose([f"cluster={cluster}"]))


@pytest.mark.parametrize("kind", sorted(p.name for p in (CONF / "stage").iterdir() if p.is_dir()))
def test_every_stage_choice_composes(kind):
    for option in choices(f"stage/{kind}"):
        pipeline = "synthetic" if kind == "generate" else "quickstart"
        words = [f"pipeline={pipeline}", f"stage/{kind}@stages.{kind}={option}"]
        cfg = compose([*words, *MUST_BE_SET.get(option, [])])
        assert cfg.stages[kind].kind == kind, option


@pytest.mark.parametrize("group", ["model", "parallel", "schedule"])
def test_every_choice_of_a_training_group_composes(group):
    assert choices(group)
    for option in choices(group):
        if not option.startswith("node8_"):
            compose([f"{group}={option}", *MUST_BE_SET.get(option, [])])


LAYOUTS = {  # names of layouts for nodes of 8 GPUs -> the models that they are for
    r"node8_\d+": ["llama_135m", "llama_360m", "llama_1b", "llama_3b"],
    r"node8_\d+_tp2": ["llama_1b", "llama_3b", "llama_8b"],
}


def chosen(folder: str, option: str) -> dict:
    return OmegaConf.to_container(OmegaConf.load(CONF / folder / f"{option}.yaml"))


@pytest.mark.parametrize("names", LAYOUTS)
def test_every_layout_for_nodes_of_8_gpus_fits_its_models(names):
    layouts = [option for option in choices("parallel") if re.fullmatch(names, option)]
    assert len(layouts) == 8
    words = ["schedule=pretrain", f"parallel={layouts[-1]}", f"model={LAYOUTS[names][-1]}"]
    composed = compose(words).stages["train"]
    first, *other = ((CONF / "parallel" / f"{o}.yaml").read_text().split("\n")[0] for o in layouts)
    assert first == "# @package stages.train"
    assert set(other) == {first}
    made = []
    for layout in layouts:
        values = chosen("parallel", layout)
        for model in LAYOUTS[names]:
            shape = {k: v for k, v in chosen("model", model).items() if k != "defaults"}
            stage = replace(
                composed,
                model=Llama(**shape),
                parallel=revive(Parallel, values["parallel"]),
                resources=Resources(**values["resources"]),
            )
            assert f"node8_{stage.resources.nodes}" == layout.removesuffix("_tp2")
            assert stage.processes() == 8 * stage.resources.nodes
            assert not list(outlook.memory(stage.model, stage.parallel, stage.schedule, stage.resources, None))  # fmt: skip
            made.append(stage)
    assert composed in made


def test_a_group_alone_stands_for_the_one_place_where_the_pipeline_has_it():
    short = compose(["pipeline=fineweb", "source=commoncrawl", "stages.collect.source.dump=CC-X"])
    place = "source@stages.collect.source=commoncrawl"
    assert short == compose(["pipeline=fineweb", place, "stages.collect.source.dump=CC-X"])
    with pytest.raises(ConfigError, match="stage/dedup@stages.exact or .*, which of them"):
        compose(["pipeline=refinedweb", "stage/dedup=bloom"])
    with pytest.raises(ConfigError, match="stage/dedup=blom: no such option; nearest: bloom"):
        compose(["stage/dedup=blom"])


def test_a_report_of_nothing_is_refused():
    words = ["pipeline=fineweb", "~stages.inspect", "~stages.report.needs.inspection"]
    with pytest.raises(
        ConfigError, match="stages.report.needs: one or more of scores .* inspection .* verdict"
    ):
        plan(compose(words))


def test_a_step_survives_its_json():
    for step in plan(compose([])):
        record = json.loads(json.dumps(plain(step.stage)))
        assert revive(Stage, record) == step.stage


@pytest.mark.parametrize("group", GROUPS)
def test_every_option_names_itself(group):
    for option in options(group):
        assert {f.name: f.default for f in fields(load(group, option).Config)}["kind"] == option


def test_every_setting_is_read_by_somebody():
    source = "\n".join(
        path.read_text() for folder in ("llmhpc", "jobs") for path in (ROOT / folder).rglob("*.py")
    )
    schemas = [Cluster, *(load(group, o).Config for group in GROUPS for o in options(group))]
    unread = {
        f"{schema.__module__}.{field.name}"
        for schema in schemas
        for field in fields(schema)
        if field.name != "kind"
        and not re.search(rf"(\.|getattr\(\w+, f?\"){_numberless(field.name)}\b", source)
    }
    assert not unread
