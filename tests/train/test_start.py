"""Trainings that go on from a checkpoint of another: as if they had been one."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from llmhpc.config import Finding
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals.tasks import grammar
from llmhpc.files import read_json
from llmhpc.jobs.evaluate import Config as Evaluate
from llmhpc.jobs.tokenize import Config as Tokenize
from llmhpc.jobs.tokenizer import Config as Tokenizer
from llmhpc.train.settings import Decay, Packing
from llmhpc.train.start import check, source_of

STABLE = {"steps": 6, "decay": Decay.constant}
LONGER = STABLE | {"steps": 8}
FALL = {"steps": 6, "decay": Decay.wsd, "decay_steps": 3}  # flat to step 3


def exact(records):
    return [(r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"]) for r in records]


@pytest.fixture(scope="module")
def stable(runs, tmp_path_factory):
    """Six steps with a constant rate; checkpoints at 3 and 6."""
    home = tmp_path_factory.mktemp("stable") / "run"
    runs.here(home, schedule=STABLE)
    return home


@pytest.fixture(scope="module")
def longer(runs, tmp_path_factory):
    """The same with eight steps, without a pause."""
    home = tmp_path_factory.mktemp("longer") / "run"
    return runs.here(home, schedule=LONGER)


def counts(home):
    return json.loads((home / "manifest.json").read_text())["counts"]


def test_a_continuation_has_the_losses_of_one_training(runs, stable, longer, tmp_path):
    records = runs.here(tmp_path / "run", schedule=LONGER, start_from=str(stable))
    assert exact(records) == exact(longer)[6:]
    assert {record["lr"] for record in records} == {3e-3}
    made = counts(tmp_path / "run")
    assert (made["tokens"], made["tokens_before"]) == (8 * 256, 6 * 256)


def test_a_branch_has_the_losses_of_a_training_with_its_fall(runs, stable, tmp_path):
    whole = runs.here(tmp_path / "whole", schedule=FALL)
    branch = runs.here(tmp_path / "run", schedule=FALL, start_from=str(stable), start_step=3)
    assert exact(branch) == exact(whole)[3:]
    assert branch[-1]["lr"] == pytest.approx(3e-4)
    steps = [path.name for path in (tmp_path / "run" / "exports").iterdir()]
    assert steps == ["000006"]


def test_a_killed_continuation_goes_on_without_its_start(runs, stable, longer, tmp_path):
    parent, home = tmp_path / "parent", tmp_path / "run"
    shutil.copytree(stable, parent)
    asked = {"schedule": LONGER, "start_from": str(parent), "start_step": 3, "checkpoint_every": 2}
    runs.start(home, **asked).kill_after(step=3, saved=4)
    shutil.rmtree(parent)
    assert exact(runs.here(home, **asked)) == exact(longer)[3:]
    assert counts(home)["tokens_before"] == 3 * 256


@pytest.mark.slow
@pytest.mark.parametrize("parallel", [{"dp": 2, "zero_stage": 1}, {"tp": 2, "pp": 2}])
def test_a_continuation_may_have_another_layout(parallel, runs, stable, longer, tmp_path):
    asked = {"schedule": LONGER, "start_from": str(stable), "start_step": 3}
    records = runs.spread(tmp_path / "run", parallel=parallel, **asked)
    for one, other in zip(records, longer[3:], strict=True):
        assert abs(one["loss"] - other["loss"]) < 1e-5
        assert abs(one["grad_norm"] - other["grad_norm"]) < 1e-4


def test_a_larger_batch_follows_when_the_smaller_one_is_said(runs, stable, tmp_path):
    grown = LONGER | {"global_batch": 16, "batch_warmup": [[6, 8]]}
    records = runs.here(tmp_path / "run", schedule=grown, start_from=str(stable))
    assert [record["tokens"] for record in records] == [256 * 6 + 512, 256 * 6 + 1024]


WRONG = [
    ({"start_step": 5}, r"start_step=5: no such checkpoint in .*; one of 3, 6"),
    ({"model": {"hidden_size": 32}}, r"model\.hidden_size=32: 64, as .* has, which this goes on"),
    ({"schedule": LONGER | {"sequence_length": 16}}, r"schedule\.sequence_length=16: 32, as .* has"),
    ({"schedule": LONGER | {"packing": Packing.documents}}, r"schedule\.packing=documents: stretches"),
    ({"schedule": LONGER | {"global_batch": 16}}, r"schedule\.global_batch=16: 96 sequences up to "),
    ({"schedule": STABLE}, r"schedule\.steps=6: more than the 6 of the start"),
    ({"start_from": "/nowhere"}, r"start: /nowhere has no checkpoints; a train step's directory"),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "message"), WRONG)
def test_a_start_that_does_not_fit_is_one_line_before_anything_begins(
    changes, message, runs, stable, tmp_path
):
    asked = {"schedule": LONGER, "start_from": str(stable)} | changes
    cfg = runs.settings(**asked)
    found = cfg.foresee({"tokens": runs.inputs["tokens"]}, tmp_path, machine_gb=None)
    messages = [finding.message for finding in found if not finding.estimate]
    assert len(messages) == 1
    assert "\n" not in messages[0]
    with pytest.raises(ConfigError, match=message) as caught:
        runs.here(tmp_path / "run", **asked)
    assert str(caught.value) == messages[0]
    assert not (tmp_path / "run" / "metrics.jsonl").exists()


def test_another_seed_is_refused(runs, stable, tmp_path):
    state = read_json(stable / "checkpoints" / "6" / "state.json")
    cfg = runs.settings(schedule=LONGER)
    source = source_of(runs.inputs, cfg.schedule, cfg.heldout_fraction)
    check(state, "stable", cfg.model, cfg.schedule, source, seed=7)
    with pytest.raises(ConfigError, match="seed=8: 7, as stable has, which this goes on from"):
        check(state, "stable", cfg.model, cfg.schedule, source, seed=8)


def test_other_tokens_are_refused(runs, stable, tmp_path):
    cfg = runs.settings(schedule=LONGER, start_from=str(stable))
    found = cfg.foresee({"tokens": tmp_path / "others"}, tmp_path, machine_gb=None)
    name = Path(runs.inputs["tokens"]).name
    assert found == [
        Finding(f"needs.tokens=others: {name}, as {stable} has, which this goes on from")
    ]  # fmt: skip


def test_a_damaged_start_is_refused(runs, stable, tmp_path):
    parent = tmp_path / "parent"
    shutil.copytree(stable, parent)
    path = next((parent / "checkpoints" / "6").glob("weights-*.safetensors"))
    data = path.read_bytes()
    path.write_bytes(data[:-9] + bytes([data[-9] ^ 1]) + data[-8:])
    with pytest.raises(ArtifactError, match=r"checkpoints/6 is damaged; another start_step"):
        runs.here(tmp_path / "run", schedule=LONGER, start_from=str(parent))


def played(base, other):
    model = {"vocab_size": Tokenizer().vocab_size}
    base = replace(base, model=replace(base.model, **model))
    roles = {"tokenizer": Tokenizer(), "tokens": Tokenize(), "start": other(base.model)}
    base.check_with(roles)


@pytest.mark.parametrize(
    ("step", "message"),
    [
        (4, "start_step=4: a multiple of checkpoint_every=3 of stable, or its last, 6"),
        (9, "start_step=9: a multiple of checkpoint_every=3 of stable, or its last, 6"),
        (0, None),
        (3, None),
    ],
)
def test_a_step_of_the_same_run_is_checked_before_it_is_there(step, message, runs):
    needs = {"tokens": "tokenize", "tokenizer": "tokenizer", "start": "stable"}
    base = runs.settings(schedule=LONGER, needs=needs, start_step=step)
    parent = runs.settings(schedule=STABLE)
    if message is None:
        played(base, lambda model: replace(parent, model=model))
        return
    with pytest.raises(ConfigError) as caught:
        played(base, lambda model: replace(parent, model=model))
    assert str(caught.value) == message


def test_only_a_training_can_be_gone_on_from(runs):
    needs = {"tokens": "tokenize", "tokenizer": "tokenizer", "start": "evaluate"}
    with pytest.raises(ConfigError, match=r"needs\.start=evaluate: a train step, it is of kind ev"):
        played(
            runs.settings(needs=needs), lambda model: Evaluate(tasks={"grammar": grammar.Config()})
        )
