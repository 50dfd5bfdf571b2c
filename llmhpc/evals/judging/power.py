"""What it would take to be sure of a difference that is as large as the one seen: seeds, items or tokens."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from llmhpc.evals.judging.paired import CONFIDENCE, Difference

POWER = 0.8  # how often such a difference would be decided
MOST_SEEDS = 1000
MOST_ITEMS = 1_000_000_000  # beyond it the difference is as good as none
CHECKPOINTS_LEAST = 4  # for a straight line with an error
FURTHEST = 100.0  # times the tokens seen: beyond it nothing is foretold


class Needed(NamedTuple):
    """What would be enough; None: not known, or it is not that which lacks. Seeds and items are told together."""

    seeds: int | None  # of each data set
    items: int | None  # where with these items no number of seeds is enough
    tokens: int | None  # with these seeds and items
    reason: str


def needed(found: Difference, items: int, tokens: Sequence[int], ratios: Sequence[float]) -> Needed:
    """What would decide a difference as large as ``found`` with that power, at a two-sided 5%.

    Args:
        found: the difference at the last checkpoint.
        items: asked for it.
        tokens: of the checkpoints.
        ratios: difference / half the width of its interval there.
    """
    if found.count < 2:
        alone = "one training of each shows nothing of the noise of seeds; two or more of each do"
        return Needed(None, None, None, alone)
    more, told = _tokens(found.value, tokens, ratios)
    squared = found.value**2
    room = squared - _multiple(found.freedom) ** 2 * found.items_alone
    if (seeds := _seeds(found.count * found.seeds, room)) is not None:
        return Needed(seeds, None, more, told)
    return Needed(*_items(found, items), more, f"with these items no number of seeds does; {told}")


def _seeds(variance: float, room: float) -> int | None:
    """The least k with (t(0.975) + t(0.8))**2 * variance / k < room, for the variance of one seed's difference."""
    counts = np.arange(2, MOST_SEEDS + 1)
    enough = _multiple(counts - 1) ** 2 * variance / counts < room
    return int(counts[enough][0]) if enough.any() else None


def _items(found: Difference, items: int) -> tuple[int | None, int | None]:
    """Seeds and items that share D**2 alike: half for the noise that is a seed's own, half for the items."""
    half = found.value**2 / 2
    variance = items * found.items * float(_multiple(found.freedom)) ** 2
    if variance >= MOST_ITEMS * half:
        return None, None
    own = found.count * max(found.seeds - found.both, 0.0)
    enough = variance / half
    return _seeds(own, half), math.ceil(enough)


def _tokens(value: float, tokens: Sequence[int], ratios: Sequence[float]) -> tuple[int | None, str]:
    """Where a straight line of difference / half its interval over log(tokens) reaches 1.43: 2.80 / 1.96."""
    places = [
        (math.log(count), math.copysign(1, value) * ratio)
        for count, ratio in zip(tokens, ratios, strict=True)
        if count > 0 and math.isfinite(ratio)
    ]
    if len(places) < CHECKPOINTS_LEAST:
        return None, f"{len(places)} checkpoints show no trend over tokens; {CHECKPOINTS_LEAST} do"
    line = stats.linregress(*zip(*places, strict=True))
    if line.slope <= line.stderr:
        return None, "against its error the difference does not grow with tokens"
    goal = float(_multiple(math.inf) / stats.norm.ppf((1 + CONFIDENCE) / 2))
    last = places[-1][0]
    ahead = max(0.0, (goal - line.intercept - line.slope * last) / line.slope)
    if ahead > math.log(FURTHEST):
        return None, f"more than {FURTHEST:.0f} times these tokens"
    told = (
        f"tokens: difference / half its interval grows by {line.slope * math.log(2):.2f} with each doubling, by a"
        f" straight line over log(tokens) through {len(places)} checkpoints"
    )
    return round(math.exp(last + ahead)), told


def _multiple(degrees: Any) -> Any:
    """How many standard errors a difference must be long: t(0.975) + t(0.8); 2.80 for many degrees of freedom."""
    return stats.t.ppf((1 + CONFIDENCE) / 2, degrees) + stats.t.ppf(POWER, degrees)
