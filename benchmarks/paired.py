"""Two ways to the same thing, timed in turn in one process: a ratio of CPU times, and where the rest of the time goes."""

import cProfile
import pstats
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

PROFILE_LINES = 6

Timer = Callable[..., Any]
Side = Callable[[Timer], Any]  # prepares, then returns what the timer says of the rest


@dataclass(slots=True)
class Row:
    """One comparison: how much faster, and how far the two agree."""

    what: str
    goal: float
    ratio: float
    least: float
    greatest: float
    cold: float | None
    reference_per_s: float
    fast_per_s: float
    agreement: dict[str, Any]
    time_goes_to: list[str]


def cpu_s(run: Callable[..., object], *arguments: object) -> float:
    """Seconds of CPU."""
    begun = time.process_time()
    run(*arguments)
    return time.process_time() - begun


def compare(
    what: str, goal: float, documents: int, rounds: int, agreement: dict[str, Any],
    reference: Side, fast: Side, cold: Side | None = None,
) -> Row:  # fmt: skip
    """Time the sides in turn, forwards and backwards; then the fast one once more under the profiler."""
    sides = [side for side in (reference, fast, cold) if side]
    rows = []
    for number in range(rounds):
        turn = sides if number % 2 else sides[::-1]
        taken = [side(cpu_s) for side in turn]
        rows.append(taken if number % 2 else taken[::-1])
    ratios = [sorted(row[0] / row[n] for row in rows) for n in range(1, len(sides))]
    medians = [statistics.median(column) for column in zip(*rows, strict=True)]
    profile = cProfile.Profile()
    fast(profile.runcall)
    return Row(
        what, goal,
        *(round(r, 2) for r in (statistics.median(ratios[0]), ratios[0][0], ratios[0][-1])),
        round(statistics.median(ratios[1]), 2) if cold else None,
        *(round(documents / median, 1) for median in medians[:2]),
        agreement, _top(profile),
    )  # fmt: skip


def _top(profile: cProfile.Profile) -> list[str]:
    stats: dict[tuple[str, int, str], Any] = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(entry[2] for entry in stats.values())
    first = sorted(stats.items(), key=lambda item: -item[1][2])[:PROFILE_LINES]
    return [f"{entry[2] / total:4.0%} {Path(file).name}:{name}" for (file, _, name), entry in first]
