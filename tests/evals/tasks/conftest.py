"""Small copies of the data sets in their true columns and layouts, and what a task file asks of them."""

import functools
import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf

from llmhpc.evals.items import Asked
from llmhpc.evals.tasks import EvalTask, Material
from llmhpc.planning.registry import load, register

CONF = Path(__file__).parents[3] / "conf"


def write(path: Path, rows: list[dict]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


ARC = {
    "id": "Mercury_7220990",
    "question": "Which factor will most likely cause a person to develop a fever?",
    "choices": {
        "text": ["a leg muscle relaxing", "a bacterial population in the bloodstream"],
        "label": ["1", "2"],
    },
    "answerKey": "2",
}
HELLASWAG = {
    "ind": 24,
    "activity_label": "Roof shingle removal",
    "ctx_a": "A man is sitting on a roof [substeps] high up.",
    "ctx_b": "he",
    "ctx": "A man is sitting on a roof. he",
    "endings": [
        "is using wrap.",
        "is ripping level tiles off.",
        "rides a bike.",
        "stands [title] up.",
    ],
    "source_id": "activitynet~v_-JhWjGDPHMY",
    "split": "val",
    "split_type": "indomain",
    "label": "1",
}
PIQA = {
    "goal": "How do I ready a guinea pig cage for it's new occupants?",
    "sol1": "Give it a few inches of bedding.",
    "sol2": "Give it a few inches of jeans.",
    "label": 0,
}
WINOGRANDE = {
    "sentence": "Sarah was a much better surgeon than Maria so _ always got the easier cases.",
    "option1": "Sarah",
    "option2": "Maria",
    "answer": "2",
}
OPENBOOKQA = {
    "id": "8-376",
    "question_stem": "Frilled sharks live far beneath the surface of the ocean, which is why",
    "choices": {"text": ["Deep sea animals", "fish"], "label": ["A", "B"]},
    "answerKey": "A",
}
COMMONSENSEQA = {
    "id": "1afa02df02c908a558b4036e80242fac",
    "question": "A revolving door is convenient, but it also serves as a security measure at a what?",
    "question_concept": "revolving door",
    "choices": {"label": [*"ABCDE"], "text": ["bank", "library", "store", "mall", "new york"]},
    "answerKey": "A",
}
SIQA = {
    "context": "Tracy didn't go home that evening.",
    "question": "What does Tracy need to do before this?",
    "answerA": "make a new plan",
    "answerB": "Go home",
    "answerC": "Find somewhere to go",
    "label": "3",
}
MMLU = {
    "question": "Find all c in Z_3 such that Z_3[x]/(x^2 + c) is a field.",
    "subject": "abstract_algebra",
    "choices": ["0", "1", "2", "3"],
    "answer": 1,
}
LAMBADA = {
    "text": "He shook my hand and\n\n\u201cwelcome,\u201d he said, and pointed at the tall glass of juice"
}
GSM8K = {
    "question": "Janet sold 1,000 eggs on two days. How many on each?",
    "answer": "1,000 / 2 = <<1000/2=500>>500.\nTwice that is 1,000.\n#### 1,000",
}
TRIVIAQA = {
    "question": "Who was the man behind The Chipmunks?",
    "question_id": "tc_2",
    "question_source": "http://www.triviacountry.com/",
    "answer": {
        "aliases": ["David Seville", "david seville"],
        "normalized_aliases": ["david seville"],
        "value": "David Seville",
    },
}


ROWS = {  # task -> a row of its data set, and the file that the hub has it in
    "arc_easy": (ARC, "ARC-Easy/test-00000-of-00001.parquet"),
    "arc_challenge": (ARC, "ARC-Challenge/test-00000-of-00001.parquet"),
    "hellaswag": (HELLASWAG, "data/validation-00000-of-00001.parquet"),
    "piqa": (PIQA, "piqa_validation.parquet"),
    "winogrande": (WINOGRANDE, "winogrande_xl/validation-00000-of-00001.parquet"),
    "openbookqa": (OPENBOOKQA, "main/test-00000-of-00001.parquet"),
    "commonsenseqa": (COMMONSENSEQA, "data/validation-00000-of-00001.parquet"),
    "siqa": (SIQA, "default/validation/0000.parquet"),
    "mmlu": (MMLU, "all/test-00000-of-00001.parquet"),
    "lambada": (LAMBADA, "data/lambada_test.jsonl"),
    "gsm8k": (GSM8K, "main/test-00000-of-00001.parquet"),
    "triviaqa": (TRIVIAQA, "rc.nocontext/validation-00000-of-00001.parquet"),
}


@pytest.fixture
def row() -> Callable[[str], dict]:
    """A row of a task's data set."""
    return lambda name: json.loads(json.dumps(ROWS[name][0]))


@pytest.fixture
def folder(tmp_path: Path) -> Callable[..., Path]:
    """Write rows into a file of a folder."""

    def make(rows: list[dict], file: str = "test.jsonl") -> Path:
        write(tmp_path / "data" / file, rows)
        return tmp_path / "data"

    return make


@pytest.fixture
def copied(folder) -> Callable[[str], Path]:
    """Write a task's row as the hub has it."""
    return lambda name: folder([ROWS[name][0]], ROWS[name][1])


@functools.cache
def composed(choice: str) -> DictConfig:
    register()
    with initialize_config_dir(str(CONF)):
        return compose(f"task/{choice}").task


@pytest.fixture
def task() -> Callable[..., EvalTask]:
    """A file of conf/task or a kind of task, with fields set as on a command line."""
    return lambda choice, **fields: OmegaConf.to_object(OmegaConf.merge(composed(choice), fields))


@pytest.fixture
def ask(task) -> Callable[..., list[Asked]]:
    """What such a task asks; the check at launch agrees that it can be asked."""

    def make(choice: str, **fields: object) -> list[Asked]:
        cfg = task(choice, **{k: str(v) if isinstance(v, Path) else v for k, v in fields.items()})
        cfg.before_launch()
        return load("task", cfg.kind).ask(cfg, "name", Material())

    return make
