"""Two data sets compared on a real Slurm: copies over seeds, evaluations as arrays of which tasks are killed, a verdict."""

import os
import shutil
import signal
from pathlib import Path

import pytest

from llmhpc.files import read_json
from llmhpc.step import stage_of

pytestmark = pytest.mark.slurm
LEFT_OUT = ("word_order", "recall", "grammar", "copying")


@pytest.fixture
def words(tiny):
    """The ablation of two seeds in the settings of the small run, with its tokenizer: arrays, and two processes."""
    return [
        "pipeline=ablation",
        *(
            word
            for word in tiny
            if "tasks." not in word or "tasks.continuation" in word or "tasks.heldout" in word
        ),
        *(f"~stages.evaluate.tasks.{task}" for task in LEFT_OUT),
        "stages.tokenizer.needs.documents=shuffle",
        *(f"stages.{step}.ranks=1" for step in ("raw_filter", "raw_shuffle", "raw_tokenize")),
        "stages.raw_tokenize.heldout_fraction=0.3",
        "stages.train.seeds=2",
        "stages.raw_train.checkpoint_every=10",
        "stages.evaluate.ranks=3",
        "stages.raw_evaluate.dp=2",
        "stages.raw_evaluate.resources.nodes=2",
        "~stages.report",
    ]


def test_an_ablation_of_which_score_tasks_are_killed_ends_with_the_same_scores_and_a_verdict(
    user, words, local_run, run_stage, files_of, tmp_path
):
    for step in ("collect", "filter", "dedup", "shuffle", "tokenizer", "tokenize", "train"):
        home = local_run.homes[step]
        shutil.copytree(home, user.root / home.name)
    submitted = user.launch(*words)
    assert submitted.count("evaluate-") == 4 and "tokenizer-" not in submitted
    scoring = lambda: [r for r in user.begun("evaluate") if r["phase"] == "score"]
    user.wait_for(lambda: len(scoring()) >= 2)
    killed, cancelled = scoring()[:2]
    os.kill(killed["pid"], signal.SIGKILL)
    user.run("scancel", cancelled["job"])
    user.done()
    attempts = [r for r in user.attempts("evaluate") if r["phase"] == "score"]
    assert sorted(r["cause"] for r in attempts) == ["cancelled", *["done"] * 6, "killed"]

    (home, _) = user.root.glob("evaluate-*")
    order = read_json(home / "step.json")
    inputs = {role: Path(path) for role, path in order["inputs"].items()}
    cfg = stage_of(home)
    assert cfg.ranks == 3
    cfg.ranks = 1
    run_stage(cfg, inputs, tmp_path / "alone")
    made = files_of(tmp_path / "alone")
    assert {name: (home / name).read_bytes() for name in made} == made

    assert [(r["cause"], r["cpus"]) for r in user.attempts("raw_evaluate")] == [("done", 2)] * 2

    (verdict,) = user.root.glob("verdict-*")
    (pair,) = read_json(verdict / "verdict.json")
    assert (pair["a"], pair["b"], pair["seeds"]) == ("refined", "raw", [0, 1])
