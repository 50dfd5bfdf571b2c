"""The lines of scores.jsonl as curves over training: one for each metric of a task in one form."""

import math
from dataclasses import dataclass
from typing import Any

from llmhpc.report.upstream import Made

SCORES = "scores.jsonl"
METRIC_NAMES = {  # what the short names in scores.jsonl mean; others are shown as they are
    "bits_per_byte": "bits per byte",
    "byte_perplexity": "perplexity, by byte",
    "word_perplexity": "perplexity, by word",
    "token_perplexity": "perplexity, by token",
    "target_perplexity": "perplexity of the target",
    "exact_match": "exact match",
    "acc": "accuracy, by likelihood",
    "acc_norm": "accuracy, by likelihood per character",
    "acc_norm_byte": "accuracy, by likelihood per byte",
    "acc_norm_token": "accuracy, by likelihood per token",
    "acc_norm_pmi": "accuracy, by information",
    "acc_norm_pmi_byte": "accuracy, by information per byte",
}
OTHER_FORMS = {"letters": "by letters"}  # the forms that a task may have beside its own


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The scores of one metric of one task in one form, by rising step: lines of scores.jsonl."""

    task: str
    form: str
    metric: str
    lines: list[dict[str, Any]]

    @property
    def key(self) -> tuple[str, str, str]:
        return self.task, self.form, self.metric

    @property
    def tokens(self) -> list[int]:
        return [line["tokens"] for line in self.lines]

    @property
    def scores(self) -> list[float]:
        return [line["value"] for line in self.lines]

    @property
    def first(self) -> dict[str, Any]:
        return self.lines[0]

    @property
    def last(self) -> dict[str, Any]:
        return self.lines[-1]

    @property
    def title(self) -> str:
        """The task, and its form where that is not its usual one."""
        return f"{self.task} {OTHER_FORMS[self.form]}" if self.form in OTHER_FORMS else self.task

    @property
    def metric_name(self) -> str:
        return self.metric_in_full.partition(",")[0]

    @property
    def metric_in_full(self) -> str:
        return METRIC_NAMES.get(self.metric, self.metric)

    @property
    def errors_above_chance(self) -> float | None:
        """(value - chance) / standard error of the last checkpoint, in the better direction."""
        last = self.last
        if last["chance"] is None or not last["stderr"]:
            return None
        better = 1 if last["higher_is_better"] else -1
        return better * (last["value"] - last["chance"]) / last["stderr"]

    @property
    def signal(self) -> float:
        """How surely it is not chance, for an order: errors above it; a text's score is not guessed."""
        return math.inf if self.last["chance"] is None else self.errors_above_chance or 0.0


def curves(step: Made) -> list[Curve]:
    """The curves of a step's scores.jsonl in the order of the file, after those that stand for a task."""
    groups: dict[tuple[str, str, str], list[dict[str, Any]]] = {}
    for line in step.json_lines(SCORES):
        groups.setdefault((line["task"], line["form"], line["metric"]), []).append(line)
    found = [
        Curve(task=task, form=form, metric=metric, lines=sorted(lines, key=lambda ln: ln["step"]))
        for (task, form, metric), lines in groups.items()
    ]
    first = headlines(found)
    return first + [curve for curve in found if curve not in first]


def headlines(found: list[Curve]) -> list[Curve]:
    """Of each task and form the curve that stands for it."""
    return [curve for curve in found if curve.last["headline"]]
