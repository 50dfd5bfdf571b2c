"""Scores and verdicts for people and for the hub: Markdown tables, and the model-index block of a model card."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from llmhpc.evals.judging.runs import headlines
from llmhpc.evals.judging.signal import Signal

TASK_TYPE = "text-generation"  # the hub's name for language models
ABOUT = "\n±: one standard error over the items. ↑ higher is better, ↓ lower.\n"
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


def write(out: Path, scores: Sequence[dict[str, Any]], name: str, step: int | None = None) -> None:
    """Write scores.md and model_index.yaml, for the card of the model ``name``: one checkpoint, by default the last."""
    (out / "scores.md").write_text(markdown(scores, step) + ABOUT)
    (out / "model_index.yaml").write_text(model_index(scores, name, step) + "\n")


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


def verdict(pairs: Sequence[dict[str, Any]], found: Sequence[Signal]) -> str:
    """verdict.md: the sentence of each pair, its differences, and which tasks tell anything."""
    return "\n".join([*map(_pair, pairs), "## Which tasks tell anything\n", _signals(found)])


def _pair(pair: dict[str, Any]) -> str:
    rows = [one for one in [pair["mean"], *pair["tasks"]] if one]
    lines = [
        f"## {pair['a']} against {pair['b']}\n",
        f"{pair['sentence']}\n",
        f"| task | {pair['a']} | {pair['b']} | gain | 95% interval | verdict | in the mean |",
        "|---|---|---|---|---|---|---|",
    ]
    for one in rows:
        last = one["points"][-1]
        inside = "" if one is pair["mean"] else "yes" if one["in_mean"] else "no"
        lines.append(
            f"| {one['name']} | {last['a']:.4f} | {last['b']:.4f} | {last['gain']:+.4f} |"
            f" {last['low']:+.4f} to {last['high']:+.4f} | {one['verdict']} | {inside} |"
        )
    lines += [f"\n{name} is left out: {why}." for name, why in pair["left_out"].items()]
    return "\n".join([*lines, ""])


def _signals(found: Sequence[Signal]) -> str:
    lines = [
        "| task | form | score | Spearman | score / noise | above chance | order kept | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for one in found:
        measured = (one.avg_spearman, one.avg_snr, one.errors_above_chance, one.avg_kendall_tau_a)
        shown = " | ".join("" if value is None else f"{value:.2f}" for value in measured)
        verdict = "keep" if one.keep else f"drop: {'; '.join(one.reasons)}"
        lines.append(f"| {one.task} | {one.form} | {one.final:.4f} | {shown} | {verdict} |")
    unknown = sorted({what for one in found for what in one.unknown})
    return "\n".join([*lines, *[f"\nNot known: {what}." for what in unknown], ""])
