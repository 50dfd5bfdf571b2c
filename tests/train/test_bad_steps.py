"""Losses that are not finite, and spikes: nothing, a batch or a stretch of the data is left out, the same after any kill.

The network goes on from a checkpoint in which the embedding of one token is not a number. One sequence has that token.
"""

import json
import math
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from llmhpc.errors import ConfigError, NotFiniteError
from llmhpc.files import read_json, sha256, write_json
from llmhpc.tokens.reader import TokenFiles
from llmhpc.train import pieces
from llmhpc.train.bad_steps import BadStep, BadSteps, Bounds, Watch
from llmhpc.train.data import ONLY, Batches
from llmhpc.train.settings import Decay, Schedule

from .conftest import SEED, VOCABULARY, Runs

POISON, FIRST, BAD = VOCABULARY - 1, 3, 9  # token; step of the start; the step that reads it
MODEL = {"tied_embeddings": False}
SHAPE = {"global_batch": 8, "sequence_length": 32, "warmup_steps": 2, "decay": Decay.constant}
SCHEDULE = SHAPE | {"steps": 12}


def exact(records):
    return [
        (r["step"], r["loss"], r["lr"], r["grad_norm"], r["tokens"], r.get("skipped"))
        for r in records
    ]


@pytest.fixture(scope="module")
def poisoned(runs, tmp_path_factory):
    """Runs on the other tests' tokens, of which one, in a sequence that step BAD reads, is the poison."""
    folder = tmp_path_factory.mktemp("poisoned") / "tokens"
    shutil.copytree(runs.inputs["tokens"], folder)
    path = folder / "train" / "00000.ds"
    row = np.fromfile(path, dtype="<u2")
    row[row == POISON] = 1
    sequence = Batches(TokenFiles(folder), Schedule(**SCHEDULE), SEED).numbers(BAD)[0]
    row[sequence * 32 + 10] = POISON
    row.tofile(path)
    made = Runs(runs.inputs | {"tokens": folder})
    made.base = made.settings(model=MODEL, schedule=SCHEDULE)
    return made


@pytest.fixture(scope="module")
def start(poisoned, tmp_path_factory):
    """Three steps, then the embedding of the poison is set to not a number."""
    home = tmp_path_factory.mktemp("start") / "run"
    poisoned.here(home, schedule={"steps": FIRST})
    folder = home / "checkpoints" / str(FIRST)
    path = next(folder.glob("weights-*.safetensors"))
    rows = {key: row.clone() for key, row in load_file(path).items()}  # the file is written anew
    index = read_json(folder / "index.json")
    (key,) = [key for key in rows if rows[key].numel() == VOCABULARY * 64 and "embed" in key]
    rows[key].view(VOCABULARY, 64)[POISON] = math.nan
    held = [
        pieces.Piece(
            name,
            pieces.Cut(**{k: v for k, v in index[name][0].items() if k != "file"}),
            row,
            written=True,
        )
        for name, row in rows.items()
    ]
    state = read_json(folder / "state.json")
    state["files"][path.name] = pieces.write(path, held, lambda piece: piece.row)
    write_json(folder / "state.json", state)
    assert sha256(path) == state["files"][path.name]["sha256"]
    return {"start_from": str(home), "start_step": FIRST}


def policy(action, **more):
    return {"schedule": SCHEDULE | {"bad_steps": BadSteps(action=action, **more)}}


def weights(home, step):
    return load_file(next((home / "checkpoints" / str(step)).glob("weights-*.safetensors")))


def test_training_stops_unless_something_else_is_asked_for(poisoned, start, tmp_path):
    with pytest.raises(NotFiniteError, match=rf"step {BAD}: loss nan, .*\(not finite\); try a sma"):
        poisoned.here(tmp_path / "run", **start)
    assert not (tmp_path / "run" / "bad_steps.json").exists()


@pytest.fixture(scope="module")
def skipping(poisoned, start, tmp_path_factory):
    home = tmp_path_factory.mktemp("skipping") / "run"
    poisoned.here(home, checkpoint_every=1, **start, **policy(BadStep.skip))
    return home


def test_a_skipped_batch_changes_nothing_and_is_recorded(poisoned, skipping):
    before, after = (weights(skipping, step) for step in (BAD - 1, BAD))
    assert all(torch.equal(before[k].nan_to_num(), after[k].nan_to_num()) for k in before)
    states = [read_json(skipping / f"checkpoints/{s}/state.json") for s in (BAD - 1, BAD, BAD + 1)]
    assert [state["updates"] for state in states] == [BAD - 1, BAD - 1, BAD]
    records = poisoned.records(skipping)
    assert [record["step"] for record in records] == list(range(FIRST + 1, 13))
    assert [record["step"] for record in records if record.get("skipped")] == [BAD]
    assert records[BAD - FIRST - 1]["loss"] is None
    noted = {"step": BAD, "loss": None, "grad_norm": None, "why": "not finite", "action": "skip"}
    assert read_json(skipping / "bad_steps.json") == [noted]
    counts = read_json(skipping / "manifest.json")["counts"]
    assert counts["bad_steps"] == {"skip": 1}
    assert math.isfinite(counts["final_loss"])


def test_a_killed_run_skips_the_same(poisoned, start, skipping, tmp_path):
    home = tmp_path / "run"
    asked = {"checkpoint_every": 4, **start, **policy(BadStep.skip)}
    poisoned.start(home, **asked).kill_after(step=BAD - FIRST + 1)
    assert exact(poisoned.here(home, **asked)) == exact(poisoned.records(skipping))
    assert len(read_json(home / "bad_steps.json")) == 1


@pytest.fixture(scope="module")
def rolled_back(poisoned, start, tmp_path_factory):
    """Checkpoints at 4, 8 and 12: from step 9 back to 8, whose next data are those of step 10."""
    home = tmp_path_factory.mktemp("rolled_back") / "run"
    poisoned.here(home, checkpoint_every=4, **start, **policy(BadStep.roll_back))
    return home


def test_after_a_roll_back_the_data_go_on_behind_the_bad_step(poisoned, rolled_back):
    (record,) = read_json(rolled_back / "bad_steps.json")
    assert (record["action"], record["to"], record["sequences"]) == ("roll_back", 8, 8)
    assert exact(poisoned.records(rolled_back))[-1][0] == 12
    assert not any(record.get("skipped") for record in poisoned.records(rolled_back))
    state = read_json(rolled_back / "checkpoints" / "12" / "state.json")
    assert (state["watch"]["left_out"], state["updates"]) == ([[8, 8]], 12)


def test_what_follows_a_roll_back_is_what_training_without_that_data_has(
    poisoned, start, skipping, rolled_back
):
    """The rate is constant: step 9 after the roll back is step 10 of the run that skipped."""
    after = {record["step"]: record["loss"] for record in poisoned.records(rolled_back)}
    skipped = {record["step"]: record["loss"] for record in poisoned.records(skipping)}
    assert [after[step] for step in (9, 10, 11)] == [skipped[step] for step in (10, 11, 12)]


@pytest.mark.parametrize("lines", [4, 7])  # before the bad step, and behind the roll back
def test_a_killed_run_rolls_back_the_same(lines, poisoned, start, rolled_back, tmp_path):
    home = tmp_path / "run"
    asked = {"checkpoint_every": 4, **start, **policy(BadStep.roll_back)}
    poisoned.start(home, **asked).kill_after(step=lines)
    assert exact(poisoned.here(home, **asked)) == exact(poisoned.records(rolled_back))
    assert read_json(home / "bad_steps.json") == read_json(rolled_back / "bad_steps.json")


@pytest.mark.slow
@pytest.mark.parametrize("action", [BadStep.skip, BadStep.roll_back])
@pytest.mark.parametrize("parallel", [{"dp": 2, "zero_stage": 1}, {"tp": 2}, {"pp": 2}])
def test_every_layout_decides_the_same(
    action, parallel, poisoned, start, skipping, rolled_back, tmp_path
):
    asked = {"checkpoint_every": 4, **start, **policy(action)}
    records = poisoned.spread(tmp_path / "run", parallel=parallel, **asked)
    expected = poisoned.records(skipping if action is BadStep.skip else rolled_back)
    for one, other in zip(records, expected, strict=True):
        assert (one["step"], one.get("skipped")) == (other["step"], other.get("skipped"))
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)


def test_no_more_than_the_limit_are_left_out(runs, tmp_path):
    wild = {"lr": 1e30, "min_lr": 0.0, "clip_norm": 0.0}
    for action in (BadStep.skip, BadStep.roll_back):
        home = tmp_path / action.name
        with pytest.raises(NotFiniteError, match=r"not finite, after 2 bad steps\); try a smaller"):
            runs.here(home, schedule=wild | {"bad_steps": BadSteps(action=action, limit=2)})
        assert [r["action"] for r in read_json(home / "bad_steps.json")] == ["skip", "skip"]


def test_a_training_that_diverges_goes_back_as_often_as_it_may(runs, tmp_path):
    spikes = BadSteps(action=BadStep.roll_back, limit=3, spike_window=2, spike_factor=3)
    wild = {"steps": 40, "lr": 3.0, "min_lr": 0.0, "clip_norm": 0.0, "bad_steps": spikes}
    with pytest.raises(
        NotFiniteError, match=r"\((loss|gradient norm) above .*, after 3 bad steps\)"
    ):
        runs.here(tmp_path / "run", schedule=wild, checkpoint_every=1)
    records = read_json(tmp_path / "run" / "bad_steps.json")
    assert [record["action"] for record in records] == ["roll_back"] * 3
    assert all(record["to"] == record["step"] - 1 for record in records)


def test_the_bounds_are_the_mean_and_deviation_of_the_last_good_steps():
    watch = Watch(BadSteps(spike_window=4, spike_factor=2), [], {}, 0)
    watch.passed(9.0, 9.0)
    assert watch.bounds(2) == Bounds(math.inf, math.inf)
    for loss in (4.0, 6.0, 4.0, 6.0):
        watch.passed(loss, loss / 2)
    assert watch.bounds(6) == Bounds(7.0, 3.5)
    again = Watch(
        BadSteps(spike_window=4, spike_factor=2), [], json.loads(json.dumps(watch.state())), 5
    )
    assert again.bounds(6) == watch.bounds(6)


def test_without_a_window_only_what_is_not_finite_is_bad():
    watch = Watch(BadSteps(), [], {}, 0)
    for _ in range(9):
        watch.passed(1.0, 1.0)
    assert watch.bounds(10) == Bounds(math.inf, math.inf)
    assert watch.state()["good"] == []


def test_what_was_left_out_adds_up_and_is_not_counted_as_read(inputs):
    batches = Batches(TokenFiles(inputs["tokens"]), Schedule(**SCHEDULE), seed=3)
    numbers = [batches.numbers(step) for step in range(1, 8)]
    batches.left_out = [[2, 8], [2, 16], [3, 8]]
    assert batches.numbers(2) == numbers[1]
    assert batches.numbers(3) == numbers[5]
    assert batches.numbers(4)[0] not in numbers[6]
    for step, least in ((1, 1), (3, 0), (5, 0), (6, 1)):  # of the row of steps as it was
        first = numbers[step - 1][0] * 32
        assert batches.times_read(ONLY, first, first + 32, 3)[0] == least


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"limit": -1}, "limit=-1: 0 or more"),
        ({"spike_window": -1}, "spike_window=-1: 0 or more"),
        ({"spike_factor": 0.5}, "spike_factor=0.5: 1 or more"),
    ],
)
def test_a_policy_that_cannot_be_is_one_line(fields, message):
    with pytest.raises(ConfigError) as caught:
        BadSteps(**fields)
    assert str(caught.value) == message
