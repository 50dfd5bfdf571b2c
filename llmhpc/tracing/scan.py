"""A search through the files in which documents end: bytes are compared first, JSON is parsed of what matches."""

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson

from llmhpc.tokens.shards import read_lines
from llmhpc.tracing.flow import Flow, Node

ALONE_BYTES = 64 << 20  # less than this is read sooner than other processes start
ANY_SIZE = 1 << 62
Report = Callable[[int, int], None]  # bytes done, bytes in all


@dataclass(frozen=True)
class Place:
    """A folder of a step in which a document can end, or wait for a step that is not done."""

    node: Node
    kind: str  # removed, documents, warc or skipped
    rule: str
    files: list[Path]


@dataclass(frozen=True)
class Hit:
    """A document that was found: the file, the line (or byte, in a WARC file) and what is known of it."""

    place: Place
    file: Path
    at: int
    document: dict[str, Any]


def places(flow: Flow) -> list[Place]:
    """What must be read to meet every document once: what was removed, and what no whole step has taken."""
    found = []
    for node in flow.nodes.values():
        for folder in node.files("removed/*"):
            found.append(Place(node, "removed", folder.name, sorted(folder.glob("*.jsonl.zst"))))
        if not node.sources():
            found.append(Place(node, "skipped", "", node.files("skipped/*.jsonl.zst")))
        takers = flow.takers(node.home)
        # a mixture leaves documents out without a trace
        if not takers or any(not taker.whole or taker.kind == "mix" for taker in takers):
            for kind, pattern in (("documents", "*.jsonl.zst"), ("warc", "*.warc.gz")):
                found.append(Place(node, kind, "", node.files(f"{kind}/{pattern}")))
    return [place for place in found if place.files]


def scan(where: list[Place], needle: str, processes: int, report: Report) -> Iterator[Hit]:
    """Documents with ``needle`` somewhere in their line, in no certain order."""
    raw = orjson.dumps(needle)[1:-1]
    files = [(file, place) for place in where for file in place.files]
    sizes = {file: file.stat().st_size for file, _ in files}
    total, done = sum(sizes.values()), 0
    if processes == 1 or total < ALONE_BYTES:
        for file, place in files:
            yield from (Hit(place, file, at, document) for at, document in _found(file, raw))
            done += sizes[file]
            report(done, total)
        return
    spawn = multiprocessing.get_context("spawn")  # pyarrow has threads, which a fork would break
    with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
        jobs = {pool.submit(_found, file, raw): (file, place) for file, place in files}
        for job in as_completed(jobs):
            file, place = jobs[job]
            yield from (Hit(place, file, at, document) for at, document in job.result())
            done += sizes[file]
            report(done, total)


def _found(file: Path, needle: bytes) -> list[tuple[int, dict[str, Any]]]:
    if file.suffix == ".gz":
        return list(_pages(file, needle))
    return [
        (number, _short(orjson.loads(line)))
        for number, line in enumerate(read_lines([file]))
        if needle in line
    ]


def _short(document: dict[str, Any]) -> dict[str, Any]:
    """Without what nobody looks at."""
    return document | {"text": "", "metadata": document.get("metadata") or {}}


def _pages(file: Path, needle: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    """The records of a WARC file of ours, as the filter step would name them."""
    from llmhpc.sources.members import members
    from llmhpc.sources.warc_records import records

    with file.open("rb") as stream:
        for offset, raw in members(stream, lambda reason, at: None, ANY_SIZE):
            if needle not in raw:
                continue
            for record in records(raw, ANY_SIZE):
                header = record.headers
                where = {"warc": file.name, "warc_offset": offset}
                where |= {"source": header.get("warc-source-file", "")}
                where |= {"source_offset": int(header.get("warc-source-offset", 0))}
                identity = header.get("warc-record-id", "").strip("<>")
                url = header.get("warc-target-uri", "")
                yield offset, {"id": identity, "text": "", "metadata": {"url": url} | where}
