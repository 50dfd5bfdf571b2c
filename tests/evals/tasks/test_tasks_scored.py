"""Tasks of files in an evaluate step: composed on a command line, and scored by a checkpoint."""

import json

import pyarrow.parquet as pq
import pytest
import torch

from llmhpc.errors import ConfigError
from llmhpc.jobs.evaluate import Config, run
from llmhpc.planning.compose import compose
from llmhpc.task import Task


@pytest.fixture
def questions(folder):
    return folder([{"question": "red or", "choices": ["blue.", "cheese."], "gold": [0], "id": 1}])


def test_a_folder_becomes_a_task_on_the_command_line(questions):
    words = [
        "+task@stages.evaluate.tasks.mine=choice",
        f"stages.evaluate.tasks.mine.data_dir={questions}",
        "stages.evaluate.tasks.mine.forms=[cloze]",
        "stages.evaluate.tasks.mine.question='Red is {{ question }}'",
        "+task@stages.evaluate.tasks.arc=arc_easy",
        "stages.evaluate.tasks.arc.shots=5",
    ]
    stage = compose(words).stages["evaluate"]
    assert stage.tasks["mine"].question == "Red is {{ question }}"
    assert stage.tasks["arc"].shots == 5
    with pytest.raises(ConfigError, match=r"^tasks\.arc\.hub=allenai/ai2_arc: "):
        stage.before_launch()
    with pytest.raises(ConfigError, match=r"^stages\.evaluate\.tasks\.mine\.shots=-1: 0 or more"):
        compose([*words, "stages.evaluate.tasks.mine.shots=-1"])


def likelihood(folder, before: str, text: str) -> float:
    """Of a text behind another one, token by token."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    first, then = ([*tokenizer(t, add_special_tokens=False)["input_ids"]] for t in (before, text))
    ids = torch.tensor([[tokenizer.bos_token_id, *first, *then]])
    with torch.inference_mode():
        logprobs = model(ids).logits[0].log_softmax(-1)
    at = range(len(first), len(first) + len(then))
    return sum(logprobs[place, ids[0, place + 1]].item() for place in at)


def test_a_checkpoint_is_scored_on_tasks_of_every_kind(
    untrained_step, tokens_step, task, folder, questions, tmp_path
):
    folder(
        [{"sentence": "Red paint and blue bread so _ is a canvas.", "answer": "1"}],
        "w/validation.jsonl",
    )
    names = {"leads": "[sentence.split('_')[0] ~ 'paint', sentence.split('_')[0] ~ 'bread']"}
    folder([{"good": "Bread and butter.", "bad": "Bread river butter."}], "p/test.jsonl")
    folder([{"prompt": "Bread and", "target": " butter"}], "t/test.jsonl")
    folder([{"text": f"Red {n} blue.", "domain": d} for n, d in enumerate("aab")], "x/test.jsonl")
    tasks = {
        "mine": task("choice", data_dir=str(questions), shots=0),
        "wino": task("winogrande", data_dir=f"{questions}/w", **names),
        "pairs": task("pairs", data_dir=f"{questions}/p"),
        "target": task("target", data_dir=f"{questions}/t"),
        "text": task("text", data_dir=f"{questions}/x"),
    }
    out = tmp_path / "out"
    out.mkdir()
    cfg = Config(tasks=tasks)
    cfg.before_launch()
    step = Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path)
    run(cfg, {"model": untrained_step, "tokens": tokens_step}, out, step)

    last = max((out / "items").glob("*.parquet"))
    found = {(r["task"], r["form"]): r for r in pq.read_table(last).to_pylist()}
    model = untrained_step / "exports" / last.stem
    expected = {
        ("wino", "cloze"): [
            ("Red paint and blue bread so paint", " is a canvas."),
            ("Red paint and blue bread so bread", " is a canvas."),
        ],
        ("mine", "cloze"): [
            ("Question: Red or\nAnswer:", " Blue."),
            ("Question: Red or\nAnswer:", " Cheese."),
        ],
        ("target", "target"): [("Bread and", " butter")],
    }
    for key, choices in expected.items():
        scores = [likelihood(model, before, text) for before, text in choices]
        assert found[key]["logprobs"] == pytest.approx(scores, abs=1e-4)
    pair = found["pairs", "cloze"]
    sentences = ["Bread and butter.", "Bread river butter."]
    scores = [likelihood(model, "", text) for text in sentences]
    assert pair["logprobs"] == pytest.approx(
        scores[::-1] if pair["gold"] == [1] else scores, abs=1e-4
    )
    domains = [json.loads(line) for line in (out / "domains.jsonl").read_text().splitlines()]
    assert {line["domain"] for line in domains if line["task"] == "text"} == {"a", "b"}
