"""From an address or an id to what became of it: tokens, held out, removed by which rule, a copy of what."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from llmhpc.dedup.url import normal_form
from llmhpc.files import read_json
from llmhpc.handoff.artifact import MANIFEST
from llmhpc.tokens import documents
from llmhpc.tokens.shards import REPEAT, reason_of
from llmhpc.tracing.backward import document_at
from llmhpc.tracing.checkpoint import Checkpoint
from llmhpc.tracing.flow import Flow, Node, came_through
from llmhpc.tracing.reads import times_read, times_streamed
from llmhpc.tracing.scan import Hit, Report, places, scan

TRAIN, HELDOUT, REMOVED, DUPLICATE = "train", "heldout", "removed", "duplicate"
WAITS, LEFT_OUT, KEPT = "waits", "left out", "kept"


@dataclass(frozen=True)
class Wanted:
    """What is looked for: ``column`` is url or id. Whatever is close to it has ``needle`` in it."""

    column: str
    value: str

    @property
    def needle(self) -> str:
        return self._common(self.value)

    def is_close(self, value: str) -> bool:
        """The same but for scheme, www., fragment and slash at the end; or another copy of the document."""
        return self._common(value) == self.needle

    def _common(self, value: str) -> str:
        return normal_form(value) if self.column == "url" else value.partition(REPEAT)[0]


class End(NamedTuple):
    """Where a document ended, and what is told of it."""

    node: Node
    mix: str
    entry: dict[str, Any]


def trace(
    flow: Flow,
    wanted: Wanted,
    processes: int,
    report: Report,
    at: Checkpoint | None = None,
    asked: frozenset[str] = frozenset(),
) -> dict[str, Any]:
    """Every document that is wanted or close to it, with what became of it.

    ``at``: the checkpoint whose reads are told, not those of all trainings. ``asked``: ids not to follow again.
    """
    ends, passed_over = list(_in_tokens(flow, wanted, at)), []
    cuts: dict[str, list[str]] = {}  # by the id of the document that went on
    for hit in scan(places(flow), wanted.needle, processes, report):
        if hit.place.kind == "skipped":
            if wanted.needle in hit.document["source"]:
                passed_over.append({"step": hit.place.node.name, **hit.document})
        elif not wanted.is_close(_value(hit.document, wanted.column)):
            continue
        elif hit.document["metadata"].get("whole", True):
            ends.append(_end(flow, hit, at))
        else:
            cuts.setdefault(hit.document["id"], []).append(_cut(hit))
    entries = [end.entry for end in ends if not _went_on(flow, end, ends)]
    for entry in entries:
        entry["cut"] = sorted(cuts.get(entry["id"].partition(REPEAT)[0], []))
        kept = entry.get("duplicate_of")
        if kept and kept not in asked:
            best = trace(flow, Wanted("id", kept), processes, report, at, asked | {kept})
            entry["kept"] = next(iter(best["found"]), None)
    entries.sort(key=lambda entry: (entry["url"], entry["id"], entry["fate"]))
    exact = [entry for entry in entries if entry[wanted.column] == wanted.value]
    return {
        wanted.column: wanted.value,
        "found": exact,
        "close": [entry for entry in entries if entry not in exact],
        "passed_over": passed_over,
        "skipped": _skipped(flow),
        "not_done": [node.name for node in flow.nodes.values() if not node.whole] + flow.to_run,
    }


def _value(document: dict[str, Any], column: str) -> str:
    return str(document["id"] if column == "id" else document["metadata"].get("url") or "")


def _in_tokens(flow: Flow, wanted: Wanted, at: Checkpoint | None) -> Iterator[End]:
    """What was tokenized, by the tables of documents: no text is read but that of the documents found."""
    for node in flow.of_kind("tokenize"):
        for split in (TRAIN, HELDOUT) if node.whole else ():
            for number, row in documents.rows_with(node.home / split, wanted.column, wanted.needle):
                if not wanted.is_close(row[wanted.column]):
                    continue
                document = document_at(node, row)
                span = row["start"], row["start"] + row["tokens"]
                told = {"fate": split, "document": number, "start": span[0], "end": span[1]}
                if split == TRAIN:
                    told["read"] = times_read(flow, node, *span, at)
                    place = node.sources()[0], row["shard"], row["line"]
                    told["read"] += times_streamed(flow, *place, row["id"], at)
                where = f"documents/{row['shard']}, line {row['line'] + 1}"
                yield _told(flow, node, document, told, where)


def _end(flow: Flow, hit: Hit, at: Checkpoint | None) -> End:
    place, metadata = hit.place, hit.document["metadata"]
    told: dict[str, Any] = {}
    if place.kind == REMOVED:
        told = {"fate": REMOVED, "rule": place.rule, "because": reason_of(metadata)}
        if place.rule == DUPLICATE:
            told |= {"fate": DUPLICATE, "duplicate_of": metadata.get("duplicate_of")}
    else:
        takers = flow.takers(place.node.home)
        waits = [taker.name for taker in takers if not taker.whole]
        told = {"fate": WAITS if waits else LEFT_OUT if takers else KEPT}
        if not takers and place.kind == "documents":
            text = place.node.home, hit.file.name, hit.at, hit.document["id"]
            told["read"] = times_streamed(flow, *text, at)
        told["next"] = ", ".join(waits or (taker.name for taker in takers))
    unit = "byte" if place.kind == "warc" else "line"
    number = hit.at if unit == "byte" else hit.at + 1
    file = hit.file.relative_to(place.node.home)
    end = _told(flow, place.node, hit.document, told, "")
    end.entry["path"].insert(0, _at(place.node, f"{file}, {unit} {number}"))
    return end


def _cut(hit: Hit) -> str:
    place, size = hit.place, hit.document["metadata"]["bytes_removed"]
    file = hit.file.relative_to(place.node.home)
    return (
        f"{place.rule} of {place.node.name} cut {size} bytes out of it: {file}, line {hit.at + 1}"
    )


def _told(
    flow: Flow, node: Node, document: dict[str, Any], told: dict[str, Any], where: str
) -> End:
    """``where``: the place in the step before ``node``, if that is known."""
    metadata = document.get("metadata") or {}
    path = came_through(flow, node, metadata)
    if where and path:
        path[0]["what"] = f"{where} {path[0]['what']}".rstrip()
    entry = {"id": document["id"], "url": str(metadata.get("url") or ""), "step": node.name}
    entry |= told | {"date": str(metadata.get("date") or ""), "path": path}
    return End(node, str(metadata.get("mix") or ""), entry)


def _at(node: Node, what: str) -> dict[str, str]:
    return {"step": node.name, "home": str(node.home), "what": what}


def _went_on(flow: Flow, end: End, ends: list[End]) -> bool:
    """Whether a document that waits, or that a mixture may have left out, was met further on."""
    if end.entry["fate"] not in (WAITS, LEFT_OUT):
        return False
    first = end.entry["id"].partition(REPEAT)[0]
    return any(
        other.entry["id"].partition(REPEAT)[0] == first
        and end.node.home in (node.home for node in flow.upstream(other.node, other.mix))
        for other in ends
    )


def _skipped(flow: Flow) -> dict[str, dict[str, int]]:
    """What each collect step passed over: reason -> how many records."""
    sources = [node for node in flow.nodes.values() if node.whole and not node.sources()]
    counts = {node.name: (read_json(node.home / MANIFEST) or {})["counts"] for node in sources}
    return {name: table["skipped"] for name, table in counts.items() if table.get("skipped")}
