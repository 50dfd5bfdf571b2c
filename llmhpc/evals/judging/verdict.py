"""Whether one data set is better than another: the difference of their trainings' scores, with its error, in words."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np

from llmhpc.evals.judging import paired
from llmhpc.evals.judging.paired import Difference
from llmhpc.evals.judging.power import Needed, needed
from llmhpc.evals.judging.runs import (
    Answers,
    Curve,
    Key,
    Run,
    answers,
    by_data,
    common,
    curves,
    name_of,
    rescaled,
)

NOT_DECIDED = "not decided"
MEAN = "mean of (score - chance) / (1 - chance); of texts of the scores"
SEEDS_LEAST = 2  # one training of each shows nothing of how far two of the same data differ


class Trained(NamedTuple):
    """One training: its score curves and its answers, by task and form."""

    curves: dict[Key, Curve]
    answers: dict[Key, Answers]


@dataclass(frozen=True, kw_only=True)
class Point:
    """At one checkpoint; gain is how much better a is than b, whatever the direction of the score."""

    tokens: int
    a: float
    b: float
    gain: float
    stderr: float
    low: float  # of the 95% interval of the gain
    high: float


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two data sets on one task and form, or on the mean of several; the last of ``points`` decides."""

    name: str
    metric: str
    chance: float | None
    in_mean: bool
    seeds: int
    items: int
    verdict: str
    share_of_seeds: float | None  # of the variance
    needed: Needed
    points: list[Point]

    @property
    def last(self) -> Point:
        return self.points[-1]


class _Course(NamedTuple):
    """A difference at each checkpoint."""

    tokens: list[int]
    a: np.ndarray
    b: np.ndarray
    differences: list[Difference]
    items: int


def verdicts(
    runs: Sequence[Run], in_mean: Sequence[Key], against: str = ""
) -> list[dict[str, Any]]:
    """Every data set of ``runs`` against one, by default the first by name: what verdict.json has.

    Args:
        runs: of two data sets or more; seed s of one goes with seed s of the other.
        in_mean: the tasks and forms that are averaged (``llmhpc.evals.judging.signal.in_mean``).
        against: the data set that the others are compared with.
    """
    trained = {
        name: {run.seed: Trained(curves(run.scores), answers(run.items)) for run in mine}
        for name, mine in by_data(runs).items()
    }
    base = against or next(iter(trained))
    return [_pair(name, base, trained, in_mean) for name in trained if name != base]


def _pair(
    a: str, b: str, trained: dict[str, dict[int, Trained]], in_mean: Sequence[Key]
) -> dict[str, Any]:
    seeds = common([trained[a], trained[b]])
    sides = [[trained[name][seed] for seed in seeds] for name in (a, b)]
    courses: dict[Key, _Course] = {}
    left_out = {}
    for key in common(run.answers.keys() & run.curves for side in sides for run in side):
        course = _course(key, *sides)
        if course is None:
            left_out[name_of(key)] = "the two were not asked the same items at the same tokens"
        else:
            courses[key] = course
    about = {key: sides[0][0].curves[key] for key in courses}
    averaged = [key for key in in_mean if key in courses]
    tasks = [
        _compare(name_of(key), course, (a, b), about[key], key in averaged)
        for key, course in courses.items()
    ]
    average = _average(averaged, courses, about)
    whole = _compare("mean", average, (a, b), None, True) if average else None
    return {
        "a": a,
        "b": b,
        "seeds": seeds,
        "in_mean": [name_of(key) for key in averaged],
        "sentence": _sentence(a, b, whole, len(averaged)),
        "mean": asdict_of(whole),
        "tasks": [asdict_of(task) for task in tasks],
        "left_out": left_out,
    }


def _course(key: Key, side_a: list[Trained], side_b: list[Trained]) -> _Course | None:
    """Differences on one task, at the tokens and on the items that all trainings have."""
    mine = [run.answers[key] for run in (*side_a, *side_b)]
    tokens = common(part.tokens for part in mine)
    same = common(zip(part.item.tolist(), part.hash.tolist(), strict=True) for part in mine)
    if not tokens or not same:
        return None
    chosen = [part.chosen(tokens, [item for item, _ in same]) for part in mine]
    y, x = (np.stack([getattr(part, name) for part in chosen]) for name in ("y", "x"))
    k, better = len(side_a), side_a[0].curves[key].better
    found = []
    for place in range(len(tokens)):
        a, b = ((y[rows, place], x[rows, place]) for rows in (slice(k), slice(k, None)))
        one = paired.difference(a, b, chosen[0].document, chosen[0].group, better)
        if one is None:
            return None
        found.append(one)
    scores = y.sum(2) / x.sum(2)  # (runs, checkpoints)
    return _Course(tokens, scores[:k].mean(0), scores[k:].mean(0), found, len(same))


def _average(
    keys: Sequence[Key], courses: dict[Key, _Course], about: dict[Key, Curve]
) -> _Course | None:
    """The mean over tasks of (score - chance) / (1 - chance), at the tokens that all have."""
    tokens = common(courses[key].tokens for key in keys)
    if not tokens:
        return None
    a, b = np.zeros(len(tokens)), np.zeros(len(tokens))
    weights = [1 / (1 - (about[key].chance or 0.0)) / len(keys) for key in keys]
    rows = [[courses[key].tokens.index(count) for count in tokens] for key in keys]
    for key, places in zip(keys, rows, strict=True):
        for side, scores in ((a, courses[key].a), (b, courses[key].b)):
            side += [rescaled(value, about[key].chance) / len(keys) for value in scores[places]]
    found = [
        paired.mean([courses[key].differences[row] for key, row in zip(keys, at, strict=True)], weights)
        for at in zip(*rows, strict=True)
    ]  # fmt: skip
    return _Course(tokens, a, b, found, sum(courses[key].items for key in keys))


def _compare(
    name: str, course: _Course, names: tuple[str, str], about: Curve | None, in_mean: bool
) -> Comparison:
    last = course.differences[-1]
    decided = last.sign if last.count >= SEEDS_LEAST else 0
    whole = last.seeds + last.items_alone
    ratios = [one.value / one.reach if one.reach else math.nan for one in course.differences]
    return Comparison(
        name=name,
        metric=about.metric if about else MEAN,
        chance=about.chance if about else 0.0,
        in_mean=in_mean,
        seeds=last.count,
        items=course.items,
        verdict={0: NOT_DECIDED, 1: f"{names[0]} is better", -1: f"{names[1]} is better"}[decided],
        share_of_seeds=last.seeds / whole if last.count >= SEEDS_LEAST and whole else None,
        needed=needed(last, course.items, course.tokens, ratios),
        points=[
            Point(
                tokens=tokens,
                a=float(a),
                b=float(b),
                gain=one.value,
                stderr=one.error,
                low=one.value - one.reach,
                high=one.value + one.reach,
            )
            for tokens, a, b, one in zip(
                course.tokens, course.a, course.b, course.differences, strict=True
            )
        ],
    )


def _sentence(a: str, b: str, whole: Comparison | None, tasks: int) -> str:
    """The verdict for a person: what, by how much, from what, and what would make it sure."""
    if whole is None:
        return f"Not decided between {a} and {b}: no task that counts was asked of both."
    last = whole.last
    seen = (
        f"{last.gain:+.4f} in the mean of {tasks} task{'s' if tasks != 1 else ''} at {last.tokens:,} tokens, 95% interval"
        f" {last.low:+.4f} to {last.high:+.4f}, {whole.seeds} seed{'s' if whole.seeds != 1 else ''} each"
    )
    if whole.verdict != NOT_DECIDED:
        return f"{whole.verdict}: {a} less {b} is {seen}."
    return f"Not decided between {a} and {b}: the difference is {seen}. {_ways(whole.needed)}"


def _ways(what: Needed) -> str:
    """If the true difference is the one seen, what would decide it in four of five cases."""
    both = ((what.seeds, "seeds of each"), (what.items, "items"))
    ways = [" and ".join(f"{count:,} {unit}" for count, unit in both if count is not None)]
    ways += [f"{what.tokens:,} tokens"] if what.tokens is not None else []
    told = " or ".join(filter(None, ways))
    if not told:
        return f"To be sure: {what.reason}."
    return f"If the true difference is this one, {told} decide it in four of five cases ({what.reason})."


def asdict_of(comparison: Comparison | None) -> dict[str, Any] | None:
    """A comparison as plain JSON values."""
    if comparison is None:
        return None
    return asdict(comparison) | {"needed": comparison.needed._asdict()}
