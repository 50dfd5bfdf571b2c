import json
import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from safetensors.numpy import save_file

from llmhpc.config import Stage
from llmhpc.display import results
from llmhpc.errors import ArtifactError, ConfigError
from llmhpc.evals.judging import letters
from llmhpc.jobs import pick, verdict
from llmhpc.planning.plan import Step

TASKS = (("arc", "cloze"), ("arc", "letters"), ("pages", "text"))


@pytest.fixture(scope="module")
def evaluated(simulate, tmp_path_factory):
    """Evaluate steps of two data sets with two seeds each."""
    root, found = tmp_path_factory.mktemp("evaluated"), {}
    for data, quality in (("raw", 0.0), ("refined", 1.0)):
        for seed in (0, 1):
            run = simulate(data, seed, quality=quality, tasks=TASKS, items=80, checkpoints=5)
            home = root / f"{data}-{seed}"
            (home / "items").mkdir(parents=True)
            lines = "".join(json.dumps(line) + "\n" for line in run.scores)
            (home / "scores.jsonl").write_text(lines)
            steps = run.items["step"].to_numpy()
            for step in sorted(set(steps.tolist())):
                pq.write_table(run.items.filter(steps == step), home / f"items/{step:06d}.parquet")
            found[f"{data}.{seed}"] = home
    return found


def test_two_data_sets_are_judged_and_compared(evaluated, run_stage, tmp_path):
    counts = run_stage(verdict.Config(against="raw"), evaluated, tmp_path)
    assert counts["tasks"] == counts["tasks_kept"] == 3
    (pair,) = json.loads((tmp_path / "verdict.json").read_text(), parse_constant=pytest.fail)
    assert (pair["a"], pair["b"], pair["seeds"]) == ("refined", "raw", [0, 1])
    assert counts["verdict_refined_against_raw"] == pair["mean"]["verdict"]
    signals = json.loads((tmp_path / "signal.json").read_text())
    assert [one["task"] for one in signals] == ["arc", "arc", "pages"]
    shown = (tmp_path / "verdict.md").read_text()
    assert pair["sentence"] in shown
    assert "| pages/text |" in shown
    last = pair["mean"]["points"][-1]
    assert f"{last['gain']:+.4f}" in shown
    step = Step("verdict", verdict.Config(), 0, "", tmp_path, {})
    assert results([step]) == [f"verdict           {pair['sentence']}"]


def test_one_data_set_alone_is_judged_only(evaluated, run_stage, tmp_path):
    alone = {role: path for role, path in evaluated.items() if role.startswith("raw")}
    counts = run_stage(verdict.Config(), alone, tmp_path)
    assert counts == {"evaluations": 2, "tasks": 3, "tasks_kept": 3}
    assert not (tmp_path / "verdict.json").exists()
    assert (tmp_path / "verdict.md").read_text().startswith("## Which tasks")


def test_a_second_verdict_is_the_same_bytes(evaluated, run_stage, tmp_path):
    for name in ("once", "twice"):
        run_stage(verdict.Config(), evaluated, tmp_path / name)
    for path in (tmp_path / "once").iterdir():
        assert path.read_bytes() == (tmp_path / "twice" / path.name).read_bytes()


def named(*roles, kind="evaluate"):
    return {role: Stage(kind=kind) for role in roles}


@pytest.mark.parametrize(
    ("cfg", "played_by", "said"),
    [
        ({}, {}, r"needs: <data>, as in needs\.refined=evaluate"),
        ({}, named("raw.0"), r"needs\.raw\.0: letters, digits, _ and - only"),
        ({}, named("raw", kind="train"), r"needs\.raw=.*: an evaluate step, it is of kind train"),
        ({"against": "x"}, named("raw", "new"), r"against=x: one of new, raw"),
    ],
)
def test_what_cannot_be_compared_is_said_before_launch(cfg, played_by, said):
    with pytest.raises(ConfigError, match=said):
        verdict.Config(**cfg).check_with(played_by)


@pytest.fixture
def model(tmp_path):
    """A training's exports, one of each step that was evaluated."""
    home, listed = tmp_path / "train", []
    for step in range(100, 600, 100):
        folder = home / f"exports/{step:06d}"
        folder.mkdir(parents=True)
        for name in ("config.json", "tokenizer.json"):
            (folder / name).write_text(json.dumps(f"{name} {step}"))
        save_file({"weight": np.array([step])}, folder / "model.safetensors")
        listed.append({"step": step, "tokens": step * 10_000, "path": f"exports/{step:06d}"})
    (home / "exports.json").write_text(json.dumps(listed))
    return home


def picked(run_stage, inputs, home, **settings) -> tuple[dict, dict, Path]:
    counts = run_stage(pick.Config(**settings), inputs, home)
    (entry,) = json.loads((home / "exports.json").read_text())
    return counts, entry, home / entry["path"]


def test_the_picked_checkpoint_is_the_only_export_and_takes_no_room(
    evaluated, model, run_stage, tmp_path
):
    inputs = {"model": model, "scores": evaluated["raw.0"]}
    counts, entry, folder = picked(run_stage, inputs, tmp_path / "pick", window=1)
    assert entry["step"] == counts["step"] == 500
    assert sorted(path.name for path in folder.parent.iterdir()) == ["000500"]
    for path in folder.iterdir():
        assert path.samefile(model / "exports/000500" / path.name)
    assert "name: pick" in (tmp_path / "pick/model_index.yaml").read_text()
    why = json.loads((tmp_path / "pick/pick.json").read_text())
    assert why["reason"].startswith("step 500 of 5 checkpoints")
    assert [point["step"] for point in why["curve"]] == [100, 200, 300, 400, 500]


def test_only_what_the_verdict_keeps_counts(evaluated, model, run_stage, tmp_path):
    run_stage(verdict.Config(), evaluated, tmp_path / "verdict")
    signals = json.loads((tmp_path / "verdict/signal.json").read_text())
    for one in signals:
        one["in_mean"] = one["task"] == "pages"
    (tmp_path / "verdict/signal.json").write_text(json.dumps(signals))
    inputs = {"model": model, "scores": evaluated["raw.0"], "verdict": tmp_path / "verdict"}
    picked(run_stage, inputs, tmp_path / "pick")
    assert json.loads((tmp_path / "pick/pick.json").read_text())["tasks"] == ["pages/text"]


def test_where_there_are_no_hard_links_files_are_copied(
    evaluated, model, run_stage, tmp_path, monkeypatch
):
    def refuse(*_args, **_settings):
        raise OSError("Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    inputs = {"model": model, "scores": evaluated["raw.0"]}
    _, _, folder = picked(run_stage, inputs, tmp_path / "pick")
    copied = folder / "config.json"
    assert copied.read_text() == (model / "exports" / folder.name / "config.json").read_text()
    assert copied.stat().st_nlink == 1


def test_a_checkpoint_that_was_evaluated_and_is_not_exported_is_an_error(
    evaluated, model, run_stage, tmp_path
):
    listed = json.loads((model / "exports.json").read_text())
    (model / "exports.json").write_text(json.dumps(listed[:2]))
    with pytest.raises(ArtifactError, match="no export of step"):
        run_stage(pick.Config(), {"model": model, "scores": evaluated["raw.0"]}, tmp_path / "pick")


def test_the_scores_are_those_of_the_picked_model():
    needs = {"model": "train", "scores": "evaluate"}
    played_by = {
        "model": Stage(kind="train"),
        "scores": Stage(kind="evaluate", needs={"model": "x"}),
    }
    with pytest.raises(ConfigError, match=r"needs\.scores=evaluate: it evaluates x"):
        pick.Config(needs=needs).check_with(played_by)
    with pytest.raises(ConfigError, match="window=2: an odd number"):
        pick.Config(window=2)


def test_an_evaluation_with_letters_tells_calibration_and_forms(evaluated):
    home = evaluated["raw.0"]
    letters.write(home)
    assert list(json.loads((home / "calibration.json").read_text())) == ["arc"]
    points = json.loads((home / "forms.json").read_text())["arc"]["points"]
    assert [point["tokens"] for point in points] == [1e6, 2e6, 3e6, 4e6, 5e6]
