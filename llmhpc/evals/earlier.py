"""Answers in sealed steps of the same root: a task more, or a checkpoint more, costs only itself."""

from pathlib import Path
from typing import Any

from llmhpc.evals import files
from llmhpc.evals.answering import Answer, Answers
from llmhpc.evals.items import Asked
from llmhpc.evals.models import exports
from llmhpc.files import read_json
from llmhpc.handoff import artifact, provenance


class Earlier:
    """What models of the same content said to the same questions, with the same packages, on the same kind of device.

    Args:
        root: folder of the steps.
    """

    def __init__(self, root: Path) -> None:
        self.device = exports.device()
        here = provenance.versions()
        self._homes = [
            home
            for home in sorted(path.parent for path in root.glob("*/scores"))
            if artifact.sealed(home) and read_json(home / artifact.MANIFEST)["versions"] == here
        ]

    def answers(self, export: exports.Export, asked: Asked) -> Answers | None:
        """The answers of an export to a task; None if no step has them."""
        for home in self._homes:
            scores = read_json(files.scores_of(home, export.step)) or {}
            task = scores.get("tasks", {}).get(asked.name, {})
            same = scores.get("hash") == exports.content_hash(export.folder)
            if same and (task.get("hash"), task.get("device")) == (asked.hash, self.device):
                rows = _rows(files.items_of(home, export.step), asked)
                return Answers(self.device, {row["item"]: _answer(row) for row in rows})
        return None


def _rows(path: Path, asked: Asked) -> list[dict[str, Any]]:
    import pyarrow.parquet as pq

    wanted = [("task", "=", asked.task), ("form", "=", asked.form.value)]
    return pq.read_table(path, filters=wanted).to_pylist()


def _answer(row: dict[str, Any]) -> Answer:
    return Answer(
        logprobs=row["logprobs"],
        alone=row["unconditioned"],
        greedy=row["greedy"],
        tokens=row["tokens_scored"],
        truncated=row["truncated"],
        texts=row["texts"],
    )
