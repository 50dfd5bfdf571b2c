"""Which checkpoints stay: the newest, those of every so many steps, and always the last."""

import json

import pytest

from llmhpc.errors import ConfigError
from llmhpc.train.keeping import Keeping


def steps_in(folder):
    return sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())


@pytest.mark.parametrize(
    ("keeping", "left"),
    [
        (Keeping(3, 10), [3, 6, 9, 10]),
        (Keeping(3, 10, last=1), [10]),
        (Keeping(3, 10, last=2), [9, 10]),
        (Keeping(3, 9, last=2), [6, 9]),
        (Keeping(2, 12, last=1, every=4), [4, 8, 12]),
        (Keeping(2, 13, last=2, every=4), [4, 8, 12, 13]),
        (Keeping(20, 10, last=3), [10]),
    ],
)
def test_what_is_left_at_the_end(keeping, left):
    assert keeping.left() == left
    assert keeping.made(0) == len(keeping._replace(last=0).left())
    assert len(left) <= keeping.most(0) <= keeping.made(0)


def test_the_newest_that_are_made_stay_while_training_goes_on():
    keeping = Keeping(2, 12, last=2, every=6)
    assert [step for step in range(13) if keeping.stays(step, 9)] == [6, 8, 12]


def test_checkpoints_go_and_their_exports_stay(runs, single, tmp_path):
    home = tmp_path / "run"
    records = runs.here(home, checkpoint_every=1, keep_checkpoints=2, keep_every=3)
    assert steps_in(home / "checkpoints") == [3, 6, 7, 8]
    assert steps_in(home / "exports") == list(range(1, 9))
    listed = json.loads((home / "exports.json").read_text())
    assert [entry["step"] for entry in listed] == list(range(1, 9))
    assert [r["loss"] for r in records] == [r["loss"] for r in runs.records(single)]


def test_what_stays_is_no_part_of_what_is_made(runs):
    from llmhpc.planning.plan import plain

    few, all_of_them = runs.settings(keep_checkpoints=1), runs.settings()
    assert plain(few, identity_only=True) == plain(all_of_them, identity_only=True)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"keep_checkpoints": -1}, "keep_checkpoints=-1: 0 or more"),
        (
            {"keep_checkpoints": 1, "keep_every": 4},
            "keep_every=4: a multiple of checkpoint_every=3",
        ),
        ({"keep_every": 3}, "keep_every=3: with keep_checkpoints=0 all stay; 1 or more"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(fields, message, runs):
    with pytest.raises(ConfigError, match=message):
        runs.settings(**fields)


def test_a_start_from_a_checkpoint_that_does_not_stay_is_refused(runs):
    from dataclasses import replace

    stable = runs.settings(keep_checkpoints=1)
    other = replace(
        runs.settings(schedule={"steps": 12}),
        needs=stable.needs | {"start": "stable"},
        start_step=3,
    )
    with pytest.raises(ConfigError, match="start_step=3: stable keeps only 8"):
        other.check_with({**dict.fromkeys(["tokens", "tokenizer"], object()), "start": stable})
