"""One way of scoring in a process of its own: CPU time, memory, and what came out, as a line of JSON.

python -m benchmarks.evals.sides ours MODEL QUESTIONS SCRATCH [--batch 1024]
"""

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from typing_extensions import Self

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("HF_DATASETS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

Rows = list[dict[str, Any]]
Answers = list[list[float]]  # for each question the log-likelihoods of its choices


class Meter:
    """CPU seconds, and how far the resident memory rises above what it is at the start."""

    def __enter__(self) -> Self:
        gc.collect()
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        self.before = _status("VmRSS")
        self.begun = time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.cpu_s = time.process_time() - self.begun
        self.memory_mb = (_status("VmHWM") - self.before) / 1e6


def ours(model: Path, questions: Path, scratch: Path, batch: int, meter: Meter) -> dict[str, Any]:
    """llmhpc as the evaluate stage does it, the writing of files left out."""
    from llmhpc.evals.models import engine

    engine.prepare()
    from llmhpc.evals import answering
    from llmhpc.evals.items import Asked, Form, Item
    from llmhpc.evals.judging import metrics

    rows = _read(questions)
    scoring = _scoring(model, batch)
    with meter:
        items = [
            Item(id=r["id"], prompt=r["prompt"], choices=tuple(r["choices"]), gold=(r["gold"],))
            for r in rows
        ]
        asked = Asked("questions", Form.cloze, items)
        responses = answering.respond(scoring, asked, lambda done: None)
        docs = [answering.doc_of(asked, item) for item in items]
        scores = {}
        for metric in metrics.of(Form.cloze, has_alone=False):
            compute = metric.sample_level_fn.compute
            values = [
                compute(doc=d, model_response=r) for d, r in zip(docs, responses, strict=True)
            ]
            scores[metric.metric_name] = sum(values) / len(values)
    answers = [response.logprobs for response in responses]
    scores["acc_norm_without_space"] = _without_space(rows, answers)
    return {"scores": scores, "answers": answers}


def texts(model: Path, questions: Path, scratch: Path, batch: int, meter: Meter) -> dict[str, Any]:
    """Log-likelihood of the questions as whole texts, and the same by a plain loop over windows."""
    from llmhpc.evals.models import engine

    engine.prepare()
    import torch

    from llmhpc.evals import answering
    from llmhpc.evals.items import Asked, Form, Item

    scoring = _scoring(model, batch)
    items = [Item(id=row["id"], choices=(row["prompt"],)) for row in _read(questions)]
    with meter:
        asked = Asked("texts", Form.text, items)
        responses = answering.respond(scoring, asked, lambda done: None)
    nats, size = 0.0, scoring.max_length
    for item in items:
        tokens = [scoring.tokenizer.bos_token_id, *scoring.tokenizer.encode(item.choices[0])]
        for start in range(0, len(tokens) - 1, size):
            window = torch.tensor([tokens[start : start + size + 1]])
            with torch.inference_mode():
                logprobs = scoring.scorer.model(window[:, :-1]).logits.log_softmax(-1)
            nats += logprobs.gather(2, window[:, 1:, None]).double().sum().item()
    return {
        "tokens": sum(len(response.output_tokens[0]) for response in responses),
        "nats": sum(sum(response.logprobs) for response in responses),
        "plain_nats": nats,
    }


def _scoring(model: Path, batch: int) -> Any:
    from llmhpc.evals.models import exports
    from llmhpc.evals.models.model import ScoringModel
    from llmhpc.evals.models.scoring import Scorer
    from llmhpc.evals.models.writing import Writer

    checkpoint = exports.load(exports.Export(0, 0, "model", model))
    scorer = Scorer(checkpoint.model, checkpoint.max_length, batch)
    return ScoringModel(checkpoint, scorer, Writer(checkpoint, batch))


def lighteval(
    model: Path, questions: Path, scratch: Path, batch: int, meter: Meter
) -> dict[str, Any]:
    """lighteval's own transformers back end through its pipeline."""
    from llmhpc.evals.models import engine

    engine.prepare_pipeline(scratch)
    from types import ModuleType

    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.metrics.dynamic_metrics import LogLikelihoodAccMetric
    from lighteval.metrics.normalizations import LogProbCharNorm, LogProbTokenNorm
    from lighteval.models.transformers.transformers_model import TransformersModelConfig
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters
    from lighteval.tasks.lighteval_task import LightevalTaskConfig
    from lighteval.tasks.requests import Doc

    def prompt(row: dict[str, Any], task_name: str) -> Doc:
        query = f"<s>{row['prompt']}"  # a document begins with that token, as on our side
        return Doc(
            task_name=task_name,
            query=query,
            choices=row["choices"],
            gold_index=row["gold"],
            specific={"id": row["id"]},
        )

    module = ModuleType("benchmark_tasks")
    normalizations = (None, LogProbCharNorm(), LogProbTokenNorm())
    module.TASKS_TABLE = [  # type: ignore[attr-defined]
        LightevalTaskConfig(
            name="questions",
            prompt_function=prompt,
            hf_repo=str(questions.parent),
            hf_subset="default",
            hf_avail_splits=["test"],
            evaluation_splits=["test"],
            few_shots_split="test",
            metrics=[LogLikelihoodAccMetric(norm) for norm in normalizations],
        )
    ]
    pipeline = Pipeline(
        tasks="questions|0",
        pipeline_parameters=PipelineParameters(
            launcher_type=ParallelismManager.NONE,
            custom_tasks_directory=module,  # type: ignore[arg-type]
            bootstrap_iters=0,
        ),
        evaluation_tracker=EvaluationTracker(output_dir=str(scratch)),
        model_config=TransformersModelConfig(
            model_name=str(model),
            dtype="float32",
            device="cpu",
            batch_size=batch,
            add_special_tokens=False,
            cache_dir=str(scratch / f"cache-{os.getpid()}"),
        ),
    )
    with meter:
        pipeline.evaluate()
    values = pipeline.get_results()["results"]["questions:0"]
    by_id = {
        detail.doc.specific["id"]: list(detail.model_response.logprobs)
        for detail in pipeline.get_details()["questions|0"]
    }
    return {
        "scores": {name: float(values[name]) for name in ("acc", "acc_norm", "acc_norm_token")},
        "answers": [by_id[row["id"]] for row in _read(questions)],
    }


def lm_eval(
    model: Path, questions: Path, scratch: Path, batch: int, meter: Meter
) -> dict[str, Any]:
    """lm-evaluation-harness on the same file, by a task of its own making."""
    from lm_eval.evaluator import simple_evaluate
    from lm_eval.models.huggingface import HFLM

    task = {
        "task": "questions",
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(questions)}, "cache_dir": str(scratch)},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": "<s>{{prompt}}",
        "doc_to_choice": lambda row: [choice.removeprefix(" ") for choice in row["choices"]],
        "doc_to_target": "gold",
        "target_delimiter": " ",  # which it does not count as part of an answer
        "metric_list": [{"metric": "acc"}, {"metric": "acc_norm"}],
    }
    loaded = HFLM(
        pretrained=str(model),
        dtype="float32",
        device="cpu",
        batch_size=batch,
        add_bos_token=False,
    )
    with meter:
        results = simple_evaluate(loaded, tasks=[task], bootstrap_iters=0, log_samples=True)
    values = results["results"]["questions"]
    samples = sorted(results["samples"]["questions"], key=lambda sample: sample["doc_id"])
    return {
        "scores": {name: values[f"{name},none"] for name in ("acc", "acc_norm")},
        "answers": [[float(r[0]) for r in sample["filtered_resps"]] for sample in samples],
    }


def _without_space(rows: Rows, answers: Answers) -> float:
    """Accuracy by character as lm-eval counts them: without the space before an answer."""
    right = 0
    for row, answer in zip(rows, answers, strict=True):
        values = [
            value / len(choice.lstrip())
            for value, choice in zip(answer, row["choices"], strict=True)
        ]
        right += values.index(max(values)) == row["gold"]
    return right / len(rows)


def _read(path: Path) -> Rows:
    return [json.loads(line) for line in path.read_text().splitlines()]


def _status(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


SIDES: dict[str, Callable[..., dict[str, Any]]] = {
    "ours": ours,
    "texts": texts,
    "lighteval": lighteval,
    "lm_eval": lm_eval,
}


def main() -> None:
    """Print one line of JSON, the last one."""
    parser = argparse.ArgumentParser()
    parser.add_argument("side", choices=SIDES)
    for name in ("model", "questions", "scratch"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--batch", type=int, default=1024)
    options = parser.parse_args()
    meter = Meter()
    result = SIDES[options.side](
        options.model, options.questions, options.scratch, options.batch, meter
    )
    result |= {"cpu_s": meter.cpu_s, "memory_mb": meter.memory_mb}
    print(json.dumps(result | {"process_cpu_s": time.process_time()}))


if __name__ == "__main__":
    main()
