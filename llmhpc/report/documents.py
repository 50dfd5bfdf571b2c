"""Section: some documents to read, of those that were kept and of those that each rule removed."""

import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import zstandard

from llmhpc.errors import ArtifactError
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Documents to read"
REMOVED, KEPT = "removed", "documents"
SUFFIX = ".jsonl.zst"
LOOKED_AT = 500  # of a rule's documents, to find different reasons
ADDRESSES = ("url", "file_path")
REASONS = ("dropped_because", "filter_reason")  # ours, with the value; datatrove's bare one
NUMBER = re.compile(r"[\d.]+")
DROPPED_BY = "dropped_by"  # the rule, which the shelf is named after
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
    examples: list[Example]


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """A shelf for each rule that removed something, after one of what was kept in the end."""
    if not limits.examples:
        return None
    shelves = []
    for step in reversed(history.made):
        if shards := _shards(step, KEPT):
            shelves.append(_shelf("kept", step, shards, limits, removed=False))
            break
    for step in history.made:
        rules = {Path(name).parts[1] for name in step.files if name.startswith(f"{REMOVED}/")}
        for rule in sorted(rules, key=_order(step)):
            shards = _shards(step, f"{REMOVED}/{rule}")
            shelves.append(_shelf(rule, step, shards, limits, removed=True))
    shelves = [shelf for shelf in shelves if shelf.examples]
    return {"shelves": shelves} if shelves else None


def _order(step: Made) -> Any:
    """Rules in the order in which they were applied, others by name before them."""
    applied = list(step.counts.get("rules", {}))
    return lambda rule: (applied.index(rule) if rule in applied else -1, rule)


def _shards(step: Made, folder: str) -> list[Path]:
    names = [name for name in step.files if name.startswith(f"{folder}/") and name.endswith(SUFFIX)]
    return [step.home / name for name in sorted(names)]


def _shelf(name: str, step: Made, shards: list[Path], limits: Limits, *, removed: bool) -> Shelf:
    """Documents with different reasons first, then the first ones."""
    seen = list(islice(_documents(shards), LOOKED_AT if removed else limits.examples))
    reasons: dict[str, int] = {}
    for number, document in enumerate(seen):
        reason = _first_of(document.get("metadata", {}), REASONS)
        reasons.setdefault(NUMBER.sub("", reason), number)
    picked = list(reasons.values()) + [n for n in range(len(seen)) if n not in reasons.values()]
    examples = [_example(seen[n], limits.example_characters) for n in picked[: limits.examples]]
    return Shelf(name=name, step=step.name, removed=removed, examples=examples)


def _example(document: dict[str, Any], characters: int) -> Example:
    metadata = {
        k: v for k, v in document.get("metadata", {}).items() if not isinstance(v, dict | list)
    }
    shown = (*ADDRESSES, *REASONS, DROPPED_BY)
    details = {key: value for key, value in metadata.items() if key not in shown}
    return Example(
        text=document["text"][:characters],
        characters=len(document["text"]),
        address=_first_of(metadata, ADDRESSES) or str(document.get("id", "")),
        reason=_first_of(metadata, REASONS),
        details=tuple((key, _short(value)) for key, value in details.items()),
    )


def _first_of(metadata: dict[str, Any], keys: tuple[str, ...]) -> str:
    return next((str(metadata[key]) for key in keys if metadata.get(key)), "")


def _short(value: Any) -> str:
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= DETAIL_CHARACTERS else text[:DETAIL_CHARACTERS] + "…"


def _documents(shards: list[Path]) -> Iterator[dict[str, Any]]:
    """The documents of the shards in order; reads no further than asked."""
    for shard in shards:
        try:
            with shard.open("rb") as file:
                stream = zstandard.ZstdDecompressor().stream_reader(file, read_across_frames=True)
                for line in io.TextIOWrapper(stream, encoding="utf-8"):
                    yield json.loads(line)
        except (OSError, ValueError, zstandard.ZstdError) as error:
            raise ArtifactError(f"{shard}: not the documents that it was ({error})") from None
