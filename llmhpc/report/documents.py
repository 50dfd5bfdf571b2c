"""Section: some documents to read, of those that were kept and of those that each rule removed."""

import json
import re
from dataclasses import dataclass
from typing import Any

from llmhpc.errors import ArtifactError
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Documents to read"
SAMPLES = "samples.parquet"  # of an inspect step
KEPT = "kept"
NUMBER = re.compile(r"[\d.]+")
SHOWN = ("url", "file_path", "dropped_because", "filter_reason", "dropped_by", "whole")  # elsewhere
DETAIL_CHARACTERS = 80


@dataclass(frozen=True, kw_only=True)
class Example:
    """The beginning of a document, and what its metadata says."""

    text: str
    characters: int  # of the whole document
    address: str
    reason: str
    details: tuple[tuple[str, str], ...]

    @property
    def cut(self) -> bool:
        return len(self.text) < self.characters


@dataclass(frozen=True, kw_only=True)
class Shelf:
    """The examples of one rule of one step, or of the documents that a step kept."""

    name: str
    step: str
    removed: bool
    whole: bool  # False: what was taken out of documents that went on
    examples: list[Example]


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """A shelf for each rule that removed something, after one of what was kept in the end."""
    shelves = [s for step in history.with_file(SAMPLES) for s in _shelves(history, step, limits)]
    shelves = [shelf for shelf in shelves if shelf.examples]
    return {"shelves": shelves} if shelves else None


def _shelves(history: History, inspection: Made, limits: Limits) -> list[Shelf]:
    """In the order of the steps and their rules; of what was kept the last step's only, and first."""
    order = [step.home for step in history.steps]
    inputs = {role: path for role, path in inspection.inputs.items() if path in order}
    names = {step.home: step.name for step in history.steps}
    ledger = inspection.json("ledger.json") or {"totals": []}
    places = {(row["step"], row["rule"]): row["place"] for row in ledger["totals"]}
    piles: dict[tuple[str, str, bool], list[dict[str, Any]]] = {}
    for row in _rows(inspection):
        piles.setdefault((row["step"], row["fate"], row["whole"]), []).append(row)
    steps = {role: order.index(path) for role, path in inputs.items()}
    last = max((role for role, fate, _ in piles if fate == KEPT), key=lambda r: steps.get(r, -1), default="")  # fmt: skip
    shown = [key for key in piles if key[1] != KEPT or key[0] == last]
    shown.sort(key=lambda key: (key[1] != KEPT, steps.get(key[0], -1), places.get(key[:2], -1), not key[2]))  # fmt: skip
    return [
        Shelf(
            name=fate,
            step=names[inputs[role]] if role in inputs else role,
            removed=fate != KEPT,
            whole=whole,
            examples=[_example(row, limits.example_characters)
                      for row in _varied(piles[role, fate, whole])[: limits.examples]],
        )
        for role, fate, whole in shown
    ]  # fmt: skip


def _rows(inspection: Made) -> list[dict[str, Any]]:
    import pyarrow as pa
    import pyarrow.parquet

    path = inspection.home / SAMPLES
    try:
        return pa.parquet.read_table(path).to_pylist()
    except (OSError, pa.ArrowException) as error:
        raise ArtifactError(f"{path}: not the documents that it was ({error})") from None


def _varied(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Those with different reasons first, then the others."""
    first: dict[str, int] = {}
    for number, row in enumerate(rows):
        first.setdefault(NUMBER.sub("", row["reason"]), number)
    return [rows[n] for n in first.values()] + [r for n, r in enumerate(rows) if n not in first.values()]  # fmt: skip


def _example(row: dict[str, Any], characters: int) -> Example:
    details = {k: v for k, v in json.loads(row["metadata"]).items() if k not in SHOWN}
    return Example(
        text=row["text"][:characters],
        characters=row["characters"],
        address=row["url"] or row["id"],
        reason=row["reason"],
        details=tuple((key, _short(value)) for key, value in details.items()),
    )


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= DETAIL_CHARACTERS else text[:DETAIL_CHARACTERS] + "…"
