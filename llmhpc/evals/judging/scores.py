"""From answers to scores with their errors, and to a record of each item."""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from llmhpc.evals.answering import Answers, doc_of, response_of
from llmhpc.evals.items import Asked, Form
from llmhpc.evals.judging import metrics
from llmhpc.evals.judging.uncertainty import Part, ratio_error
from llmhpc.evals.models.exports import Export, content_hash


class Judged:
    """One task in one form, as one checkpoint answered it.

    Args:
        export: the checkpoint.
        asked: the items, in the order of their records.
        answers: to all of them.
    """

    def __init__(self, export: Export, asked: Asked, answers: Answers) -> None:
        self.export, self.asked, self.device = export, asked, answers.device
        self.answers = [answers.by_item[item.id] for item in asked.items]
        self.docs = [doc_of(asked, item) for item in asked.items]
        self.responses = [response_of(answer) for answer in self.answers]
        has_alone = all(item.alone is not None for item in asked.items)
        self.metrics = metrics.of(asked.form, has_alone, asked.metric, asked.writing.answer)
        self.values = {
            metric.metric_name: [
                metric.compute_sample(doc=doc, model_response=response)[metric.metric_name]
                for doc, response in zip(self.docs, self.responses, strict=True)
            ]
            for metric in self.metrics
        }

    @property
    def headline(self) -> str:
        """The metric that stands for the task."""
        return self.metrics[0].metric_name

    @cached_property
    def lines(self) -> list[dict[str, Any]]:
        """A line of scores.jsonl for each metric, that of the headline first."""
        return [
            {**self._line(metric, range(len(self.docs))), "headline": metric is self.metrics[0]}
            for metric in self.metrics
        ]

    def by_domain(self) -> list[dict[str, Any]]:
        """A line of the headline for each domain, where there are several."""
        places: dict[str, list[int]] = {}
        for place, item in enumerate(self.asked.items):
            places.setdefault(item.domain, []).append(place)
        if len(places) < 2:
            return []
        return [
            {**self._line(self.metrics[0], places[domain]), "domain": domain}
            for domain in sorted(places)
        ]

    def _line(self, metric: Any, places: Sequence[int]) -> dict[str, Any]:
        name = metric.metric_name
        chosen = [self.values[name][place] for place in places]
        error = ratio_error(part for place in places if (part := self._part(name, place)))
        return {
            "step": self.export.step,
            "tokens": self.export.tokens,
            "checkpoint": self.export.name,
            "task": self.asked.task,
            "form": self.asked.form.value,
            "metric": name,
            "value": float(metric.get_corpus_aggregations()[name](chosen)),
            "stderr": None if math.isnan(error) else error,
            "chance": self._chance(name, places),
            "items": len(places),
            "truncated": sum(self.answers[place].truncated > 0 for place in places),
            "higher_is_better": metric.higher_is_better,
        }

    def _chance(self, metric: str, places: Sequence[int]) -> float | None:
        """What guessing gets; None where nobody can guess."""
        if metric in metrics.PERPLEXITIES:
            return None
        if self.asked.form in (Form.target, Form.written):
            return 0.0
        items = [self.asked.items[place] for place in places]
        return math.fsum(len(item.gold) / len(item.choices) for item in items) / len(items)

    def _part(self, metric: str, place: int) -> Part | None:
        item = self.asked.items[place]
        share = metrics.share(metric, self.values[metric][place])
        return share and Part(item.document or item.id, item.group or item.id, *share)

    def records(self) -> list[dict[str, Any]]:
        """A row of items/<step>.parquet for each item; see ``write_items``."""
        return [self._record(place) for place in range(len(self.docs))]

    def _record(self, place: int) -> dict[str, Any]:
        item, answer, doc = self.asked.items[place], self.answers[place], self.docs[place]
        part = self._part(self.headline, place)
        chosen = metrics.prediction(self.headline, doc, self.responses[place])
        is_text = self.asked.form is Form.text
        return {
            "step": self.export.step,
            "tokens": self.export.tokens,
            "task": self.asked.task,
            "form": self.asked.form.value,
            "item": item.id,
            "hash": item.hash,
            "document": item.document or item.id,
            "group": item.group or item.id,
            "domain": item.domain,
            "gold": None if is_text or self.asked.form is Form.written else list(item.gold),
            "logprobs": answer.logprobs,
            "unconditioned": answer.alone,
            "characters": [len(choice) for choice in item.choices],
            "bytes": [len(choice.encode()) for choice in item.choices],
            "tokens_scored": answer.tokens,
            "greedy": answer.greedy,
            "truncated": answer.truncated,
            "texts": answer.texts,
            "prediction": chosen,
            "correct": None if is_text or part is None else part.y == part.x,
            "y": part and part.y,
            "x": part and part.x,
        }


def write_lines(path: Path, lines: Iterable[Mapping[str, Any]]) -> None:
    """Write scores.jsonl or domains.jsonl."""
    with path.open("w") as file:
        file.writelines(json.dumps(line) + "\n" for line in lines)


def write_items(path: Path, records: list[dict[str, Any]]) -> None:
    """Write items/<step>.parquet, one row for each item, in the order given."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    schema = pa.schema(
        [
            ("step", pa.int64()),
            ("tokens", pa.int64()),
            ("task", pa.string()),
            ("form", pa.string()),
            ("item", pa.string()),
            ("hash", pa.string()),  # of all that the model saw
            ("document", pa.string()),
            ("group", pa.string()),
            ("domain", pa.string()),
            ("gold", pa.list_(pa.int32())),  # null where nothing is chosen
            # nats; one for each choice, as the next five, or for each of the windows of a text
            ("logprobs", pa.list_(pa.float64())),
            ("unconditioned", pa.list_(pa.float64())),  # the same without the question, or empty
            ("characters", pa.list_(pa.int32())),
            ("bytes", pa.list_(pa.int32())),
            ("tokens_scored", pa.list_(pa.int32())),
            ("greedy", pa.list_(pa.bool_())),  # the likeliest token each time gives the choice
            ("truncated", pa.int32()),  # tokens that the prompt lost to fit in the model
            ("texts", pa.list_(pa.string())),  # what the model wrote
            ("prediction", pa.int32()),
            ("correct", pa.bool_()),
            ("y", pa.float64()),  # the headline of any items is sum(y) / sum(x)
            ("x", pa.float64()),
        ]
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records, schema=schema), path)


def write_checkpoint(path: Path, export: Export, judged: Iterable[Judged]) -> None:
    """Write scores/<step>.json: the headline of each task and all its metrics, and the hashes of model and questions."""
    tasks: dict[str, Any] = {}
    for each in judged:
        about = {"items": len(each.docs), "hash": each.asked.hash, "device": each.device}
        entry = tasks[each.asked.name] = {**about, "headline": each.headline}
        for line in each.lines:
            entry[line["metric"]] = {key: line[key] for key in ("value", "stderr", "chance")}
    about = {"step": export.step, "tokens": export.tokens, "checkpoint": export.name}
    about["hash"] = content_hash(export.folder)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(about | {"tasks": tasks}, indent=1) + "\n")
