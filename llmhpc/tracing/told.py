"""What was traced, as lines for a person."""

from collections.abc import Iterator
from typing import Any


def token_lines(found: dict[str, Any]) -> Iterator[str]:
    """The document of a token and its way back."""
    before, token, after = found["text"]
    yield f"token {found['position']:,} of {found['split']}: {token!r}, id {found['token_id']}"
    yield f"...{before}[[{token}]]{after}..."
    yield ""
    yield f"document {found['document']:,}  {found['url'] or found['domain']}"
    yield f"  {found['id']}, its token {found['in_document']:,} of {found['tokens']:,}"
    if first := found.get("first"):
        start = first["start"]
        where = "which is not in this split" if start is None else f"token {start:,}"
        yield f"  copy {found['copy']} of {first['id']}, {where}"
    yield from _reads(found.get("read", []))
    yield from _path(found["path"])


def address_lines(found: dict[str, Any]) -> Iterator[str]:
    """Every document of an address or an id, and what became of it."""
    wanted = found.get("url") or found.get("id")
    if not found["found"]:
        yield f"{wanted}: in none of the run's steps"
        for place in found["passed_over"]:
            yield f"  {place['step']} passed over {place['source']}: {place['reason']}"
        for step, reasons in found["skipped"].items():
            counted = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            yield f"  {step} did not take everything ({counted}); skipped/ has what was lost"
    for entry in found["found"]:
        yield from _document(entry)
    if found["close"]:
        yield f"close to {wanted}:"
        for entry in found["close"]:
            yield from _document(entry)
    if found["not_done"]:
        yield f"not done yet: {', '.join(found['not_done'])}"


def seen_lines(found: dict[str, Any]) -> Iterator[str]:
    """What a checkpoint has seen."""
    yield f"step {found['steps']:,} of {found['step']}: {found['tokens']:,} tokens"
    for source in found["sources"]:
        name = f"  {source['source']} ({source['step']})"
        if "shard" in source:
            where = f"{source['shard']}, line {source['line'] + 1}"
            yield f"{name}: {source['epoch']} times read to the end, now in documents/{where}"
            continue
        share = (
            f"{source['sequences']:,} sequences, {source['epochs']:g} times its {source['of']:,}"
        )
        yield f"{name}: {share}"
        counts = ", ".join(f"{count:,} {how}" for how, count in source["documents"].items())
        yield f"    documents read: {counts}"


def _document(entry: dict[str, Any]) -> Iterator[str]:
    yield f"{entry['url'] or entry['id']}  {entry['date']}".rstrip()
    yield f"  {_fate(entry)}"
    if kept := entry.get("kept"):
        yield f"  of {kept['url'] or kept['id']}: {_fate(kept)}"
    yield from (f"  {cut}" for cut in entry["cut"])
    yield from _reads(entry.get("read", []))
    yield from _path(entry["path"])


def _reads(reads: list[dict[str, Any]]) -> Iterator[str]:
    for read in reads:
        least, most = read["least"], read["most"]
        times = f"{least}" if least == most else f"{least} to {most}"
        first = ", ".join(f"{step:,}" for step in read.get("first", []))
        where = f", first at {first}" if first else ""
        yield f"  read {times} times in {read['steps']:,} steps of {read['step']}{where}"


def _fate(entry: dict[str, Any]) -> str:
    fate, step = entry["fate"], entry["step"]
    if fate in ("train", "heldout"):
        where = "in training" if fate == "train" else "held out"
        return f"{where}: tokens {entry['start']:,} to {entry['end'] - 1:,} of {fate} ({step})"
    if fate == "duplicate":
        return f"a duplicate, removed by {step}: {entry['because']}"
    if fate == "removed":
        return f"removed by {entry['rule']} of {step}: {entry['because'] or 'no reason noted'}"
    if fate == "waits":
        return f"in {step}; {entry['next']} is not done yet"
    if fate == "left out":
        return f"in {step}; {entry['next']} did not take it"
    return f"kept by {step}, the last step that has documents"


def _path(path: list[dict[str, str]]) -> Iterator[str]:
    width = max(len(place["step"]) for place in path) if path else 0
    for place in path:
        yield f"    {place['step']:{width}}  {place['what']}".rstrip()
