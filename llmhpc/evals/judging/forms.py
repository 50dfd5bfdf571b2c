"""Cloze against letters: in which form the same questions show more, and at which tokens that changes."""

from typing import Any

from llmhpc.evals.judging import paired
from llmhpc.evals.judging.runs import Answers, Run, answers, common

CLOZE, LETTERS = "cloze", "letters"
NAMES = {1: LETTERS, -1: CLOZE, 0: "not decided"}


def forms(run: Run) -> dict[str, dict[str, Any]]:
    """Of each task that is put in both forms, what ``compared`` finds. Plain JSON values."""
    asked = answers(run.items)
    tasks = sorted(
        {task for task, form in asked if form == LETTERS} & {t for t, f in asked if f == CLOZE}
    )
    found = {task: compared(asked[task, CLOZE], asked[task, LETTERS]) for task in tasks}
    return {task: one for task, one in found.items() if one is not None}


def compared(cloze: Answers, letters: Answers) -> dict[str, Any] | None:
    """Both scores on the items that both have, at each checkpoint, with a 95% interval of letters less cloze.

    A form is better where the interval is on its side of 0. ``switch`` is the first checkpoint from which on
    letters are never behind and, at the last, better; None where it does not come to that.

    Returns:
        ``points``, ``items`` and ``switch``; None where there is nothing to compare.
    """
    tokens = common([cloze.tokens, letters.tokens])
    items = common([cloze.item.tolist(), letters.item.tolist()])
    if not tokens or len(items) < 2:
        return None
    first, second = cloze.chosen(tokens, items), letters.chosen(tokens, items)
    points = []
    for place, count in enumerate(tokens):
        a, b = ((one.y[place][None], one.x[place][None]) for one in (second, first))
        found = paired.difference(a, b, first.document, first.group)
        if found is None:
            return None
        points.append(
            {
                "tokens": count,
                CLOZE: float(b[0].sum() / b[1].sum()),
                LETTERS: float(a[0].sum() / a[1].sum()),
                "low": found.value - found.reach,
                "high": found.value + found.reach,
                "better": NAMES[found.sign],
            }
        )
    return {"items": len(items), "points": points, "switch": _switch(points)}


def _switch(points: list[dict[str, Any]]) -> int | None:
    behind = [n for n, point in enumerate(points) if point[LETTERS] < point[CLOZE]]
    start = behind[-1] + 1 if behind else 0
    decided = bool(points) and points[-1]["better"] == LETTERS
    return points[start]["tokens"] if decided else None
