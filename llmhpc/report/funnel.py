"""Section: what became of the documents, step by step and rule by rule."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Data"
LINES_SEEN = ("kept", "total")
REMOVED_BY = {  # a method of deduplication -> what its documents were
    "minhash": "near-duplicates",
    "bloom": "seen before, mostly or wholly",
    "substring": "little left that is not elsewhere",
    "sentence": "little left that is not elsewhere",
    "url": "of an address that is there already",
}
SOURCE_COUNTS = ("pages", "documents")  # what a step without inputs may count


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One rule, or one step without rules: how many documents came, and how many went on."""

    name: str
    step: str
    came: int
    kept: int
    reasons: tuple[tuple[str, int], ...] = ()  # why documents were removed, most frequent first
    characters: int | None = None  # of text that went on
    lines: tuple[tuple[str, int], ...] = ()  # removed from documents that went on, by kind
    edits: tuple[tuple[str, int], ...] = ()  # of documents that went on: what, how many
    branch: str = ""  # the step it goes on from, where that is not the one above
    spared: int = 0  # documents that went on although the rule is against them (keep_share)

    @property
    def removed(self) -> int:
        return self.came - self.kept


def values(history: History, limits: Limits) -> dict[str, Any] | None:
    """The stretches in order, and what is known of bytes and tokens."""
    stretches = _all(history)
    texts = history.with_count("tokens", "heldout_tokens")
    if not stretches and not texts:
        return None
    return {
        "stretches": stretches,
        "widest": max((stretch.came for stretch in stretches), default=1) or 1,
        "figures": _figures_of(history),
        "alike": [_alike(step) for step in history.with_count("by_cluster_size")],
        "texts": [(step, _budget(step, history)) for step in texts],
    }


def _all(history: History) -> list[Stretch]:
    """Those of all steps; the first of a step that does not read what is above it says what it reads."""
    found: list[Stretch] = []
    sources: dict[
        Path, str
    ] = {}  # of a step -> the last step until there, itself included, that has a stretch
    for step in history.made:
        mine = _stretches(step)
        before = next((sources[path] for path in step.inputs.values() if path in sources), "")
        if mine and before and before != found[-1].step:
            mine[0] = replace(mine[0], branch=before)
        found += mine
        if mine or before:
            sources[step.home] = step.name if mine else before
    return found


def _stretches(step: Made) -> list[Stretch]:
    counts = step.counts
    if "rules" in counts:
        tables = dict(counts.get("before_extract", {}))
        if counts.get("extract"):
            tables["extract"] = counts["extract"]
        tables |= counts["rules"]
        return [_of_rule(name, step, table) for name, table in tables.items()]
    if any(name.startswith("removed/") for name in step.files) and "documents_in" in counts:
        reasons = _by_number(counts.get("reasons", {}))
        if counts.get("duplicates"):
            reasons = ((REMOVED_BY.get(_method(step), "duplicates"), counts["duplicates"]),)
        came, kept = counts["documents_in"], counts["documents"]
        return [Stretch(name=step.name, step=step.name, came=came, kept=kept, reasons=reasons)]
    if not step.inputs:
        for name in SOURCE_COUNTS:
            if name in counts:
                skipped, kept = counts.get("skipped", {}), counts[name]
                came = kept + sum(skipped.values())
                reasons = _by_number(skipped)
                return [
                    Stretch(name=step.name, step=step.name, came=came, kept=kept, reasons=reasons)
                ]
    return []


def _method(step: Made) -> str:
    return step.config.get("method", {}).get("kind", "")


def _alike(step: Made) -> dict[str, Any]:
    """By size of the cluster: documents kept and removed, and the means of their scores.

    More deduplication can leave the worse documents (Penedo et al., arXiv 2406.17557, section 3.4): where what was
    removed from large clusters scores higher than what has no copy, it does.
    """
    table = step.counts["by_cluster_size"]
    lines = [
        {
            "size": _range(size),
            "kept": table[size].get("kept", 0),
            "removed": table[size].get("removed", 0),
            "means": [_mean(table[size], side) for side in ("kept", "removed")],
        }
        for size in sorted(table)
    ]
    return {
        "step": step.name,
        "score": step.config.get("method", {}).get("score_field", ""),
        "lines": lines,
    }


def _range(sizes: str) -> str:
    """002-002, 004-007 or 064- in words."""
    least, _, most = sizes.partition("-")
    if not most:
        return f"{int(least)} or more"
    return f"{int(least)}" if least == most else f"{int(least)} to {int(most)}"


def _mean(table: dict[str, float], side: str) -> float | None:
    scored = table.get(f"{side}_scored")
    return table[f"{side}_score"] / scored if scored else None


def _of_rule(name: str, step: Made, table: dict[str, Any]) -> Stretch:
    return Stretch(
        name=name,
        step=step.name,
        came=table["in"],
        kept=table["kept"],
        reasons=_by_number(table.get("reasons", {})),
        characters=table.get("characters"),
        lines=tuple(
            (kind, n) for kind, n in table.get("lines", {}).items() if kind not in LINES_SEEN
        ),
        edits=tuple(table.get("edits", {}).items()),
        spared=sum(table.get("spared", {}).values()),
    )


def _by_number(reasons: dict[str, int]) -> tuple[tuple[str, int], ...]:
    return tuple(sorted(reasons.items(), key=lambda item: (-item[1], item[0])))


def _figures_of(history: History) -> list[tuple[str, str, float]]:
    """The figures of all steps; bytes that one wrote and the next read are told once."""
    figures: list[tuple[str, str, float]] = []
    for step in history.made:
        for figure in _figures(step):
            if figure[1:] not in [other[1:] for other in figures]:
                figures.append(figure)
    return figures


def _figures(step: Made) -> list[tuple[str, str, float]]:
    """(what, in which unit, how much) of a step's text."""
    counts, figures = step.counts, []
    if "html_bytes" in counts:
        figures.append((f"of HTML from {step.name}", "size", counts["html_bytes"]))
    if "text_bytes" in counts:
        figures.append((f"of text from {step.name}", "size", counts["text_bytes"]))
    if "bytes_in" in counts:
        what = "HTML" if "extract" in counts else "text"
        figures.append((f"of {what} read by {step.name}", "size", counts["bytes_in"]))
    if step.inputs and (skipped := sum(counts.get("skipped", {}).values())):
        figures.append((f"records passed over by {step.name}", "count", skipped))
    if "characters" in counts:
        figures.append((f"characters of text after {step.name}", "count", counts["characters"]))
    if "clusters" in counts:
        figures.append((f"clusters in {step.name}", "count", counts["clusters"]))
    return figures


def _epochs(training: Made, step: Made, tokens: int | None) -> float | None:
    """How often a training read the tokens of a step; of a mixture it says so for each of its sources."""
    counts = training.counts
    if not tokens or "final_loss" not in counts:
        return None
    if "epochs" in counts:
        return sum(
            counts["epochs"].get(role, 0)
            for role, home in training.inputs.items()
            if home == step.home
        )
    times: float = counts["tokens"] / tokens
    return times


def _budget(step: Made, history: History) -> dict[str, Any]:
    """What tokens.json says, and how often training read the tokens of this step."""
    index = step.json("tokens.json") or {}
    readers = [made for made in history.made if step.home in made.inputs.values()]
    trained = [made.counts for made in readers if "final_loss" in made.counts]
    tokens = index.get("train", {}).get("tokens")
    return {
        "index": index,
        "epochs": _different(_epochs(made, step, tokens) for made in readers),
        "per_parameter": _different(counts["tokens"] / counts["parameters"] for counts in trained),
    }


def _different(numbers: Iterable[float | None]) -> list[float]:
    """Each once: copies of a training over seeds read alike."""
    return list(dict.fromkeys(number for number in numbers if number))
