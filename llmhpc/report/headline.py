"""First section: what was built, in one sentence and a few figures."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from markupsafe import Markup

from llmhpc.report import copies, numbers, verdict
from llmhpc.report.curves import SCORES, Curve, curves, headlines
from llmhpc.report.section import Limits
from llmhpc.report.upstream import History, Made

TITLE = "Summary"
TILES_OF_SCORES = 4
TILES_OF_LOSSES = 3  # of more data sets the range
PICK = "pick.json"


@dataclass(frozen=True)
class Tile:
    """One figure: what it is, its value, and a line that puts it in its place."""

    label: str
    value: Markup
    note: Markup | str = ""


def values(history: History, limits: Limits) -> dict[str, Any]:
    """The tiles that this run can fill, and when it was made."""
    tiles = [
        *_training(history),
        *_picked(history),
        *_scores(history),
        *_documents(history),
        *_tokens(history),
    ]
    pairs = verdict.pairs(history)
    made = history.made
    if made:
        seconds = sum(step.seconds for step in made)
        tiles.append(Tile("Time", numbers.duration(seconds), f"all {len(made)} steps together"))
    return {
        "finding": verdict.sentence(pairs[0]) if len(pairs) == 1 else verdict.ranking(pairs),
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
    return [Tile(f"Documents after {removed[-1].name}", numbers.count(last), note)]


def _tokens(history: History) -> list[Tile]:
    found = history.with_count("tokens", "heldout_tokens")
    return [
        Tile(
            "Tokens of text" if len(found) == 1 else f"Tokens of {step.name}",
            numbers.count(step.counts["tokens"]),
            Markup("and {} held out").format(numbers.count(step.counts["heldout_tokens"])),
        )
        for step in found
    ]


def _training(history: History) -> list[Tile]:
    """What trainings have in common once, and the final loss of each data set."""
    steps = history.with_count("parameters", "tokens", "final_loss")
    if not steps:
        return []
    groups = copies.by_data(history, steps)
    kind = ", ".join(sorted({step.config.get("model", {}).get("kind", "") for step in steps}))
    parameters = _range(steps, "parameters", numbers.count)
    if len(steps) == 1:
        tiles = [Tile("Parameters", parameters, kind)]
    else:
        note = Markup("{}{} parameters each").format(kind and f"{kind}, ", parameters)
        tiles = [Tile("Trainings", numbers.count(len(steps)), note)]
    tiles.append(Tile("Training tokens", _range(steps, "tokens", numbers.count), _steps(steps)))
    if len(groups) > TILES_OF_LOSSES:
        groups = {"": steps}
    for data, mine in groups.items():
        label = "Final loss" if len(groups) == 1 else f"Final loss, {data}"
        begun = Markup("nats per token")
        if all("first_loss" in step.counts for step in mine):
            first = _range(mine, "first_loss", numbers.number)
            begun = Markup("from {}, nats per token").format(first)
        tiles.append(Tile(label, _range(mine, "final_loss", numbers.number), begun))
    return tiles


def _steps(steps: list[Made]) -> Markup | str:
    if not all("steps" in step.counts for step in steps):
        return ""
    each = " each" if len(steps) > 1 else ""
    return Markup("{} steps{}").format(_range(steps, "steps", numbers.count), each)


def _range(steps: list[Made], key: str, show: Callable[[float], Markup]) -> Markup:
    """One number, or the least and the most."""
    found = [step.counts[key] for step in steps]
    if min(found) == max(found):
        return show(found[0])
    return Markup("{}–{}").format(show(min(found)), show(max(found)))


def _picked(history: History) -> list[Tile]:
    return [
        Tile(
            "Picked checkpoint",
            Markup("step {}").format(numbers.count(pick["step"])),
            Markup("of {}, mean score {}").format(
                numbers.count(len(pick["curve"])), numbers.number(pick["score"], 3)
            ),
        )
        for step in history.with_file(PICK)
        for pick in [step.json(PICK)]
    ]


def _scores(history: History) -> list[Tile]:
    """Of one evaluation the last checkpoint's headline scores that tell most; of several the verdict tells."""
    steps = history.with_file(SCORES)
    if len(steps) != 1:
        return []
    told = sorted(headlines(curves(steps[0])), key=lambda curve: -curve.signal)
    return [_score(curve) for curve in told[:TILES_OF_SCORES]]


def _score(curve: Curve) -> Tile:
    last, notes = curve.last, []
    if last["stderr"] is not None:
        notes.append(Markup("± {}").format(numbers.number(last["stderr"], 2)))
    if last["chance"] is not None:
        notes.append(Markup("chance {}").format(numbers.number(last["chance"], 2)))
    if not notes or last["chance"] is None:
        notes.append(Markup("{} items").format(numbers.count(last["items"])))
    label = f"{curve.title}: {curve.metric_name}"
    return Tile(label, numbers.number(last["value"], 3), Markup(" · ").join(notes))
