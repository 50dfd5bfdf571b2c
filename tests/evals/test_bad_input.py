"""What a person gets wrong, or a disk: each is one line that says what and where."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from llmhpc.display import remark
from llmhpc.errors import ArtifactError, StageError
from llmhpc.evals.items import Form
from llmhpc.evals.models import exports
from llmhpc.evals.tasks import choice
from llmhpc.jobs.evaluate import Config, run
from llmhpc.task import Task

ROOT = Path(__file__).parents[2]
TASK = "stages.evaluate.tasks.mine"


def rows_in(folder: Path, *rows: dict) -> Path:
    folder.mkdir()
    (folder / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        ([{"question": "q", "choices": ["a", "b"]}], ".gold: {file}:1: 'gold' is undefined; the row has question, choices"),
        ([{"question": "q", "choices": ["a", "b"], "gold": g} for g in (0, 2)], ".gold: {file}:2: 2 where 0 to 1 is right"),
        ([], ".split=test: no rows in {folder}"),
    ],
    ids=["a field is missing", "gold is out of range", "no rows"],
)  # fmt: skip
def test_a_wrong_row_is_told_before_anything_is_written(tmp_path, rows, said):
    data = rows_in(tmp_path / "data", *rows)
    words = [f"+task@{TASK}=choice", f"{TASK}.data_dir={data}", f"root={tmp_path / 'runs'}"]
    command = [sys.executable, "-m", "llmhpc.launch", *words]
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert (done.returncode, done.stdout) == (2, "")
    expected = said.format(folder=data, file=data / "test.jsonl")
    assert done.stderr == f"llmhpc: {TASK}{expected}\n"
    assert not (tmp_path / "runs").exists()


@pytest.fixture
def training(untrained_step, tmp_path):
    """A training step with one export, and the folder of that."""
    home = tmp_path / "train"
    shutil.copytree(untrained_step, home)
    return home, home / "exports" / "000000"


def without(name: str):
    def spoil(export: Path) -> None:
        (export / name).unlink()

    return spoil


def cut(name: str):
    def spoil(export: Path) -> None:
        path = export / name
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])

    return spoil


def in_parts(export: Path) -> None:
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    (export / "model.safetensors.index.json").write_text(json.dumps(index))
    (export / "model.safetensors").rename(export / "model-1-of-2.safetensors")


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (without("config.json"), r"000000: no config\.json; the export is not whole"),
        (without("tokenizer.json"), r"000000: no tokenizer\.json; the export is not whole"),
        (without("model.safetensors"), r"000000: no model\.safetensors; the export is not whole"),
        (in_parts, r"000000: no model-2-of-2\.safetensors; the export is not whole"),
        (
            cut("model.safetensors"),
            r"000000/model\.safetensors: .*not fully covered; the export is not whole",
        ),
        (cut("tokenizer.json"), r"000000/tokenizer\.json: .*line \d+ .*; the export is not whole"),
        (cut("config.json"), r"000000/config\.json: .*line \d+ .*; the export is not whole"),
    ],
)
def test_an_export_that_is_not_whole_is_told_before_anything_is_scored(training, spoil, said):
    home, export = training
    spoil(export)
    with pytest.raises(ArtifactError, match=said):
        exports.find_exports(home)


def test_weights_that_lack_a_matrix_are_not_filled_up_by_chance(training):
    home, export = training
    path = export / "model.safetensors"
    weights = load_file(path)
    del weights["model.layers.1.mlp.up_proj.weight"]
    save_file(weights, path, {"format": "pt"})
    with pytest.raises(
        ArtifactError, match=r"000000: the weights have missing keys, model\.layers\.1\.mlp\.up_"
    ):
        exports.load(exports.find_exports(home)[0])


def evaluate(train: Path, tokens: Path, data: Path, home: Path) -> tuple[dict, list[dict]]:
    cfg = Config(tasks={"mine": choice.Config(data_dir=str(data), forms=[Form.cloze])})
    (home / "out").mkdir(parents=True)
    task = Task(phase="main", rank=0, ranks=1, seed=0, home=home)
    counts = run(cfg, {"model": train, "tokens": tokens}, home / "out", task)
    lines = (home / "out" / "scores.jsonl").read_text().splitlines()
    return counts, [json.loads(line) for line in lines]


def test_a_choice_that_no_model_of_this_length_can_read_is_named(
    untrained_step, tokens_step, tmp_path
):
    row = {"question": "Which?", "choices": ["river " * 200, "stone"], "gold": 1}
    data = rows_in(tmp_path / "data", row)
    with pytest.raises(
        StageError,
        match=r"^task mine: a choice of \d{3,} tokens, ' River river .*': 1 to 128, the model",
    ):
        evaluate(untrained_step, tokens_step, data, tmp_path / "home")


def test_prompts_that_lose_their_beginning_are_counted(untrained_step, tokens_step, tmp_path):
    rows = [
        {"question": "river " * words, "choices": ["stone", "wind"], "gold": 0}
        for words in (1, 200, 2, 300)
    ]
    data = rows_in(tmp_path / "data", *rows)
    counts, lines = evaluate(untrained_step, tokens_step, data, tmp_path / "home")
    assert counts["prompts_truncated"] == 2
    assert remark(counts).startswith("2 prompts lost their beginning, as they are longer than")
    assert {line["truncated"] for line in lines} == {2}
