"""One checkpoint through lighteval: its scores, and a record of each item."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llmhpc.evals import engine, exports
from llmhpc.evals.continuation import CHOICES
from llmhpc.evals.uncertainty import Part, ratio_error
from llmhpc.files import read_json, write_json

if TYPE_CHECKING:
    from lighteval.pipeline import Pipeline

TASKS = ("continuation", "heldout")
CHANCE = {"continuation": 1 / CHOICES, "heldout": None}
HEADLINE = {"continuation": "acc_norm_pmi_byte", "heldout": "bits_per_byte"}


def evaluate(
    export: exports.Export,
    data: Path,
    cache: Path,
    batch_tokens: int,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run the tasks whose rows lie in ``data``/<task> on one checkpoint.

    Args:
        export: the checkpoint.
        data: folder of the tasks' data folders.
        cache: scratch folder for lighteval and datasets.
        batch_tokens: positions of one batch.
        progress: called with the number of items done.

    Returns:
        The lines of scores.jsonl and the records of items.parquet, for this checkpoint.
    """
    engine.prepare(cache)
    from lighteval.logging.evaluation_tracker import EvaluationTracker
    from lighteval.pipeline import ParallelismManager, Pipeline, PipelineParameters

    from llmhpc.evals.heldout_tasks import task_module
    from llmhpc.evals.model import ScoringModel

    pipeline = Pipeline(
        tasks=",".join(f"{task}|0" for task in TASKS),
        pipeline_parameters=PipelineParameters(
            launcher_type=ParallelismManager.CUSTOM,
            custom_tasks_directory=task_module(data),  # type: ignore[arg-type] # it takes both
            bootstrap_iters=0,  # standard errors are our own: by document, and without a process pool
        ),
        evaluation_tracker=EvaluationTracker(output_dir=str(cache)),
        model=ScoringModel(
            export.name, exports.load(export), batch_tokens, str(cache / "samples"), progress
        ),
    )
    pipeline.evaluate()
    records = [record for task in TASKS for record in _records(pipeline, task, export)]
    return [line for task in TASKS for line in _scores(pipeline, task, export)], records


def evaluate_once(
    export: exports.Export,
    data: Path,
    cache: Path,
    batch_tokens: int,
    kept: Path,
    progress: Callable[[int], None] = lambda done: None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """The same, unless ``kept`` holds what came out for the same weights: of an earlier look, or before a kill."""
    path = kept / f"{export.step:06d}-{exports.weights_hash(export.folder)}.json"
    if not path.exists():
        scores, answers = evaluate(export, data, cache, batch_tokens, progress)
        write_json(path, {"scores": scores, "answers": answers})
    found = read_json(path)
    return found["scores"], found["answers"]


def headline(lines: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Of each task the line of its first metric, for the lines of one checkpoint."""
    return {line["task"]: line for line in lines if line["metric"] == HEADLINE[line["task"]]}


def summary(lines: list[dict[str, Any]]) -> str:
    """One checkpoint in a few words: step 400: continuation 0.52 ± 0.03, 1.43 bits/byte."""
    first = headline(lines)
    question, text = first["continuation"], first["heldout"]
    return (
        f"step {question['step']}: continuation {question['value']:.2f} ± {question['stderr']:.2f}, "
        f"{text['value']:.2f} bits/byte"
    )


def _details(pipeline: "Pipeline", task: str) -> list[Any]:
    """What lighteval kept of each item (doc, model_response, metric), in the order of the data file."""
    return sorted(pipeline.get_details()[f"{task}|0"], key=lambda detail: int(detail.doc.id))


def _scores(pipeline: "Pipeline", task: str, export: exports.Export) -> list[dict[str, Any]]:
    """A line for each metric: the value is lighteval's, the standard error our own."""
    details = _details(pipeline, task)
    values = pipeline.evaluation_tracker.metrics_logger.metric_aggregated[f"{task}|0"]
    return [
        {
            "step": export.step,
            "tokens": export.tokens,
            "checkpoint": export.name,
            "task": task,
            "metric": metric.metric_name,
            "value": float(values[metric.metric_name]),
            "stderr": ratio_error(_part(detail, metric.metric_name) for detail in details),
            "chance": CHANCE[task],
            "items": len(details),
            "higher_is_better": metric.higher_is_better,
        }
        for metric in pipeline.tasks_dict[f"{task}|0"].metrics
    ]


def _part(detail: Any, metric: str) -> Part:
    """An item's share in a score."""
    about, value = detail.doc.specific, detail.metric[metric]
    if metric == HEADLINE["heldout"]:
        bits, size = -value.logprobs / math.log(2), value.weights
        return Part(about["document"], about["group"], bits, size)
    return Part(about["document"], about["group"], value, 1)


def _records(pipeline: "Pipeline", task: str, export: exports.Export) -> list[dict[str, Any]]:
    """One record for each item of a task.

    ``logprobs``, ``unconditioned``, ``characters``, ``bytes`` and ``tokens_scored`` have one entry for each
    choice; a held-out document is its own only choice. ``prediction`` is that of the headline metric.
    """
    from llmhpc.evals.heldout_tasks import gain_per_byte

    records = []
    for detail in _details(pipeline, task):
        doc, response = detail.doc, detail.model_response
        choices = len(doc.choices)
        record = {
            "step": export.step,
            "tokens": export.tokens,
            "task": task,
            "item": doc.specific["id"],
            "document": doc.specific["document"],
            "logprobs": response.logprobs[:choices],
            "unconditioned": response.logprobs[choices:],
            "characters": [len(choice) for choice in doc.choices],
            "bytes": [len(choice.encode()) for choice in doc.choices],
            "tokens_scored": [len(tokens) for tokens in response.output_tokens],
            "truncated": response.truncated_tokens_count,
        }
        if task == "heldout":
            record["logprobs"] = [math.fsum(response.logprobs)]  # its windows
            record["unconditioned"] = []
        else:
            gains = gain_per_byte(doc, response)
            record["gold"] = doc.gold_index
            record["prediction"] = gains.index(max(gains))
            record["correct"] = bool(detail.metric[HEADLINE[task]])
        records.append(record)
    return records
