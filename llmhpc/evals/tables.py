"""Final scores for people and for the hub: a Markdown table, and the model-index block of a model card."""

from collections.abc import Sequence
from typing import Any

from llmhpc.evals.runs import headlines

TASK_TYPE = "text-generation"  # the hub's name for language models
HEAD = "| task | form | metric | value | chance | items |\n|---|---|---|---|---|---|\n"


def finals(scores: Sequence[dict[str, Any]], step: int | None = None) -> list[dict[str, Any]]:
    """The headline lines of one checkpoint, by default of each task the last."""
    found = [
        [line for line in lines if step is None or line["step"] == step]
        for lines in headlines(scores).values()
    ]
    return [lines[-1] for lines in found if lines]


def markdown(scores: Sequence[dict[str, Any]], step: int | None = None) -> str:
    """A table with a line for each task and form; ± is one standard error over the items."""
    return HEAD + "".join(
        f"| {line['task']} | {line['form']} | {line['metric']} {'↑' if line['higher_is_better'] else '↓'} |"
        f" {value(line)} | {'' if line['chance'] is None else format(line['chance'], '.3g')} | {line['items']:,} |\n"
        for line in finals(scores, step)
    )


def value(line: dict[str, Any]) -> str:
    """0.4210 ± 0.0120; without an error where it is not known."""
    error = "" if line["stderr"] is None else f" ± {line['stderr']:.4f}"
    return f"{line['value']:.4f}{error}"


def model_index(scores: Sequence[dict[str, Any]], name: str, step: int | None = None) -> str:
    """The metadata of a model card (YAML, without its --- lines) that tells the scores of the model ``name``."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=TASK_TYPE,
            dataset_type=line["task"],
            dataset_name=line["task"],
            dataset_config=line["form"],
            metric_type=line["metric"],
            metric_name=_about(line),
            metric_value=round(line["value"], 4),
        )
        for line in finals(scores, step)
    ]
    return ModelCardData(model_name=name, eval_results=results).to_yaml()


def _about(line: dict[str, Any]) -> str:
    """What the number alone does not say."""
    parts = [f"{line['metric']} ({line['form']}"]
    if line["stderr"] is not None:
        parts.append(f"standard error {line['stderr']:.4f}")
    if line["chance"] is not None:
        parts.append(f"chance {line['chance']:.3g}")
    return ", ".join([*parts, f"{line['items']} items)"])
