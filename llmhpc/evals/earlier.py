"""Answers in sealed steps of the same root: a task more, or a checkpoint more, costs only itself."""

from pathlib import Path
from typing import Any

from llmhpc.errors import ArtifactError
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
        self._files = {}  # of each step, as it was sealed
        for home in sorted(path.parent for path in root.glob("*/scores")):
            manifest = read_json(home / artifact.MANIFEST) or {}
            if manifest.get("versions") == here:
                self._files[home] = manifest["files"]

    def answers(self, export: exports.Export, asked: Asked) -> Answers | None:
        """The answers of an export to a task; None if no step has them."""
        for home in self._files:
            items = files.items_of(home, export.step)
            if self._has(home, export, asked) and self._as_sealed(home, items):
                rows = _rows(items, asked)
                return Answers(self.device, {row["item"]: _answer(row) for row in rows})
        return None

    def _has(self, home: Path, export: exports.Export, asked: Asked) -> bool:
        path = files.scores_of(home, export.step)
        if not self._as_sealed(home, path):
            return False
        scores = read_json(path)
        task = scores["tasks"].get(asked.name, {})
        same = (task.get("hash"), task.get("device")) == (asked.hash, self.device)
        return same and scores.get("hash") == exports.content_hash(export.folder)

    def _as_sealed(self, home: Path, path: Path) -> bool:
        """True if a file is what the step's manifest says."""
        entry = self._files[home].get(str(path.relative_to(home)))
        if entry is None:
            return False
        try:
            artifact.check_file(path, entry)
        except ArtifactError:
            return False
        return True


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
