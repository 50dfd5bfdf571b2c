"""Whether a task tells anything of models of this size: it gets better with training, beyond noise and chance.

The measures are those of Kydlíček et al., FineTasks: finding signal in a haystack of 200+ multilingual tasks (2024), used
for FineWeb2 (arXiv:2506.20920); its published columns have the names used here. Intervals are those of a bootstrap
over the documents that the items come from: what other questions would have shown, not what other seeds would.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from scipy import stats

from llmhpc.errors import ArtifactError
from llmhpc.evals.judging.runs import (
    Answers,
    Curve,
    Key,
    Run,
    answers,
    common,
    curves,
    name_of,
    rescaled,
)
from llmhpc.evals.judging.uncertainty import drawn_interval

SPEARMAN_LEAST = 0.5  # FineTasks: mean correlation of steps and score over all runs
SNR_LEAST = 20.0  # FineTasks: above it, except where models write
ABOVE_CHANCE_LEAST = 3.0  # FineTasks: standard deviations; here standard errors over items, too
CHECKPOINTS_LEAST = 3  # fewer have no order worth a number
DRAWS = 400
WRITTEN = "written"


@dataclass(kw_only=True)
class Signal:
    """Of one task in one form. None: not known from these runs, and not held against the task."""

    task: str
    form: str
    metric: str
    chance: float | None
    runs: int
    checkpoints: int  # that all runs have
    tokens: int  # at the last of these
    final: float  # mean score there
    avg_spearman: float | None = None
    avg_spearman_interval: tuple[float, float] | None = None
    avg_std: float | None = None  # of seeds, mean over checkpoints
    avg_snr: float | None = None
    avg_snr_interval: tuple[float, float] | None = None
    errors_above_chance: float | None = None  # of the best run
    max_n_std: float | None = None
    max_n_std_interval: tuple[float, float] | None = None
    avg_kendall_tau_a: float | None = None
    avg_kendall_tau_a_interval: tuple[float, float] | None = None
    keep: bool = True
    in_mean: bool = False  # counts where tasks are averaged
    courses: list[dict[str, Any]] = field(default_factory=list)  # of each run its scores
    at: list[int] = field(default_factory=list)  # tokens of these scores
    reasons: list[str] = field(default_factory=list)
    unknown: list[str] = field(default_factory=list)

    @property
    def key(self) -> Key:
        return self.task, self.form


def signals(runs: Sequence[Run]) -> list[Signal]:
    """The signal of every task and form that all runs have, by name; it says which of them count in a mean.

    Raises:
        ArtifactError: the runs have no checkpoint at the same tokens.
    """
    scores = [curves(run.scores) for run in runs]
    asked = [answers(run.items) for run in runs]
    data = np.array([run.data for run in runs])
    found = []
    for key in common(scores):
        mine = [part[key] for part in scores]
        items = [part[key] for part in asked if key in part]
        one = _signal(key, mine, items if len(items) == len(runs) else [], data)
        for course, run in zip(one.courses, runs, strict=True):
            course |= {"data": run.data, "seed": run.seed}
        found.append(one)
    _mark(found)
    return found


def _signal(key: Key, mine: list[Curve], items: list[Answers], data: np.ndarray) -> Signal:
    first, tokens = mine[0], common(curve.tokens for curve in mine)
    if not tokens:
        raise ArtifactError(f"{name_of(key)}: no checkpoint at the same tokens in all evaluations")
    values = np.array([curve.values[np.isin(curve.tokens, tokens)] for curve in mine])
    signal = Signal(
        task=key[0],
        form=key[1],
        metric=first.metric,
        chance=first.chance,
        runs=len(mine),
        checkpoints=len(tokens),
        tokens=tokens[-1],
        final=float(values[:, -1].mean()),
        courses=[{"values": row} for row in values.tolist()],
        at=tokens,
    )
    drawn = _drawn(items, tokens) if items else None
    for name, value in _measures(values, tokens, first, data).items():
        if not np.isfinite(value):
            continue
        setattr(signal, name, float(value))
        if drawn is not None and hasattr(signal, f"{name}_interval"):
            spread = _measures(drawn, tokens, first, data)[name]
            setattr(signal, f"{name}_interval", _interval(name, float(value), spread))
    signal.errors_above_chance = _errors_above_chance(mine, tokens[-1])
    _judge(signal)
    return signal


def _measures(
    values: np.ndarray, tokens: list[int], curve: Curve, data: np.ndarray
) -> dict[str, np.ndarray]:
    """The measures that can be had, for values (..., runs, checkpoints)."""
    found = {}
    if len(tokens) >= CHECKPOINTS_LEAST:
        found["avg_spearman"] = spearman(tokens, curve.better * values).mean(-1)
    noise = seed_noise(values, data)
    if noise is not None:
        found["avg_std"] = noise
        noise = np.where(noise > 0, noise, np.nan)
        found["avg_snr"] = values[..., -1].mean(-1) / noise
        if curve.chance is not None:
            best = (curve.better * (values[..., -1] - curve.chance)).max(-1)
            found["max_n_std"] = best / noise
    ordering = ordering_consistency(values, tokens, data)
    if ordering is not None:
        found["avg_kendall_tau_a"] = ordering
    return found


def _interval(name: str, value: float, draws: np.ndarray) -> tuple[float, float]:
    """95%; correlations end at -1 and 1."""
    low, high = drawn_interval(value, draws)
    bounded = name in ("avg_spearman", "avg_kendall_tau_a")
    return (max(low, -1.0), min(high, 1.0)) if bounded else (low, high)


def spearman(tokens: Sequence[int], values: np.ndarray) -> np.ndarray:
    """Rank correlation of tokens and ``values`` (..., checkpoints), 0 for values that are all the same."""
    ranks = stats.rankdata(values, axis=-1)
    ranks = ranks - ranks.mean(-1, keepdims=True)
    steps = stats.rankdata(tokens) - (len(tokens) + 1) / 2
    norm = np.sqrt((ranks**2).sum(-1) * (steps**2).sum())
    return (ranks * steps).sum(-1) / np.where(norm > 0, norm, 1)


def seed_noise(values: np.ndarray, data: np.ndarray) -> np.ndarray | None:
    """Standard deviation over the seeds of a data set, mean over checkpoints and over data sets (avg-std).

    Args:
        values: (..., runs, checkpoints).
        data: (runs,), what each was trained on.

    Returns:
        (...,); None where no data set has two seeds.
    """
    sets = [values[..., data == name, :] for name in np.unique(data)]
    spreads = [part.std(-2, ddof=1).mean(-1) for part in sets if part.shape[-2] > 1]
    return np.mean(spreads, axis=0) if spreads else None


def ordering_consistency(
    values: np.ndarray, tokens: Sequence[int], data: np.ndarray
) -> np.ndarray | None:
    """Mean Kendall tau-a of the data sets' order at consecutive checkpoints in the second half of the tokens.

    tau-a is (pairs in the same order - pairs in the other) / all pairs; a tie is neither. A data set stands where
    the mean of its seeds is.

    Returns:
        (...,); None for one data set, or fewer than two checkpoints in the second half.
    """
    late = np.flatnonzero(np.array(tokens) >= tokens[-1] / 2)
    names = np.unique(data)
    if len(names) < 2 or len(late) < 2:
        return None
    means = np.stack([values[..., data == name, :].mean(-2) for name in names], axis=-2)[..., late]
    first, second = np.triu_indices(len(names), 1)
    order = np.sign(means[..., first, :] - means[..., second, :])
    return (order[..., 1:] * order[..., :-1]).mean((-1, -2))


def _drawn(items: list[Answers], tokens: list[int]) -> np.ndarray:
    """(draws, runs, checkpoints): scores of documents drawn with replacement, the same for all runs."""
    documents = np.unique(np.concatenate([part.document for part in items]))
    weights = np.random.default_rng(0).multinomial(
        len(documents), np.full(len(documents), 1 / len(documents)), size=DRAWS
    )
    found = []
    for part in items:
        codes, rows = np.searchsorted(documents, part.document), np.isin(part.tokens, tokens)
        sums = [
            np.stack([np.bincount(codes, row, len(documents)) for row in values[rows]], axis=1)
            for values in (part.y, part.x)
        ]
        with np.errstate(invalid="ignore"):  # no document of this run in a draw
            found.append((weights @ sums[0]) / (weights @ sums[1]))
    return np.stack(found, axis=1)


def _errors_above_chance(mine: list[Curve], tokens: int) -> float | None:
    """(score - chance) / standard error over the items, of the run where it is largest."""
    found = []
    for curve in mine:
        place = curve.tokens.index(tokens)
        if curve.chance is not None and not math.isnan(curve.errors[place]):
            above = curve.better * (curve.values[place] - curve.chance)
            found.append(float(above / curve.errors[place]))
    return max(found, default=None)


def _judge(signal: Signal) -> None:
    """Keep or drop, with what speaks against the task and what is not known."""
    against, unknown = signal.reasons, signal.unknown
    if signal.avg_spearman is None:
        unknown.append(f"whether it gets better: that takes {CHECKPOINTS_LEAST} checkpoints")
    elif signal.avg_spearman < SPEARMAN_LEAST:
        against.append(
            f"does not get better with training: Spearman {signal.avg_spearman:.2f}, below {SPEARMAN_LEAST}"
        )
    if signal.avg_snr is None:
        unknown.append("noise of seeds: that takes two trainings of a data set that differ")
    elif signal.avg_snr <= SNR_LEAST and signal.form != WRITTEN:
        against.append(
            f"seeds differ too much: score / noise {signal.avg_snr:.1f}, not above {SNR_LEAST:.0f}"
        )
    for value, unit in (
        (signal.errors_above_chance, "standard errors"),
        (signal.max_n_std, "standard deviations of seeds"),
    ):
        if value is not None and value < ABOVE_CHANCE_LEAST:
            against.append(f"not above chance: {value:.1f} {unit}, below {ABOVE_CHANCE_LEAST:.0f}")
    signal.keep = not against


def _mark(found: list[Signal]) -> None:
    """Mark what counts in a mean: of each kept task the form with the best score (OLMES, arXiv:2406.08446).

    Texts count only where nothing else is kept.
    """
    best: dict[str, Signal] = {}
    for signal in found:
        if signal.keep and signal.chance is not None:
            rival = best.get(signal.task)
            if rival is None or rescaled(signal.final, signal.chance) > rescaled(
                rival.final, rival.chance
            ):
                best[signal.task] = signal
    counted = list(best.values()) or [signal for signal in found if signal.keep]
    for signal in counted:
        signal.in_mean = True


def in_mean(found: Sequence[Signal] | Sequence[dict[str, Any]]) -> list[Key]:
    """The tasks and forms that count, of signals or of the entries of signal.json."""
    entries = [part if isinstance(part, dict) else vars(part) for part in found]
    return [(entry["task"], entry["form"]) for entry in entries if entry["in_mean"]]
