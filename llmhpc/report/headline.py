"""First section: what was built, in one sentence and a few figures."""

from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from llmhpc.report import evaluation, numbers
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History

TITLE = "Summary"
TILES_OF_SCORES = 4


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, and a line that puts it in its place."""

    label: str
    value: Markup
    note: Markup | str = ""


def values(history: History, limits: Limits) -> dict[str, Any]:
    """The tiles that this run can fill, and when it was made."""
    tiles = [*_training(history), *_scores(history), *_documents(history), *_tokens(history)]
    made = history.made
    if made:
        seconds = sum(step.seconds for step in made)
        tiles.append(Tile("Time", numbers.duration(seconds), f"all {len(made)} steps together"))
    return {
        "tiles": tiles,
        "started": min((step.record["started"] for step in made), default=None),
        "finished": max((step.record["finished"] for step in made), default=None),
        "hosts": sorted({step.record["host"] for step in made}),
        "commits": sorted(
            {_short(step.record["commit"]) for step in made if step.record["commit"]}
        ),
    }


def _short(commit: str) -> str:
    """Twelve digits, and whether the code differed from that commit."""
    digits, plus, _ = commit.partition("+")
    return digits[:12] + (" with changes" if plus else "")


def _documents(history: History) -> list[Tile]:
    """How many documents there were first, and how many are left where the last was removed."""
    counted = history.with_count("documents_in", "documents")
    removed = [step for step in counted if step.counts["documents_in"] > step.counts["documents"]]
    removed = [step for step in removed if any(name.startswith("removed/") for name in step.files)]
    if not removed:
        return []
    first, last = removed[0].counts["documents_in"], removed[-1].counts["documents"]
    note = Markup("{} of {} read").format(numbers.share(last, first), numbers.count(first))
    return [Tile("Documents kept", numbers.count(last), note)]


def _tokens(history: History) -> list[Tile]:
    tiles = []
    for step in history.with_count("tokens", "heldout_tokens"):
        counts = step.counts
        note = Markup("and {} held out").format(numbers.count(counts["heldout_tokens"]))
        tiles.append(Tile("Tokens of text", numbers.count(counts["tokens"]), note))
    return tiles


def _training(history: History) -> list[Tile]:
    tiles = []
    for step in history.with_count("parameters", "tokens", "final_loss"):
        counts = step.counts
        kind = step.config.get("model", {}).get("kind", "")
        tiles.append(Tile("Parameters", numbers.count(counts["parameters"]), kind))
        note = (
            Markup("{} steps").format(numbers.count(counts["steps"])) if "steps" in counts else ""
        )
        tiles.append(Tile("Training tokens", numbers.count(counts["tokens"]), note))
        begun = Markup("nats per token")
        if "first_loss" in counts:
            begun = Markup("from {}, nats per token").format(numbers.number(counts["first_loss"]))
        tiles.append(Tile("Final loss", numbers.number(counts["final_loss"]), begun))
    return tiles


def _scores(history: History) -> list[Tile]:
    """The last checkpoint's headline score of each task."""
    tiles = []
    for step in history.with_file(evaluation.SCORES):
        for curve in evaluation.headlines(evaluation.curves(step))[:TILES_OF_SCORES]:
            last = curve.last
            notes = []
            if last["stderr"] is not None:
                notes.append(Markup("± {}").format(numbers.number(last["stderr"], 2)))
            if last["chance"] is not None:
                notes.append(Markup("chance {}").format(numbers.number(last["chance"], 2)))
            if not notes or last["chance"] is None:
                notes.append(Markup("{} items").format(numbers.count(last["items"])))
            label = f"{curve.title}: {curve.metric_name}"
            tiles.append(Tile(label, numbers.number(last["value"], 3), Markup(" · ").join(notes)))
    return tiles
