"""Which checkpoint of a training is the best, by its mean score over tasks, smoothed over its neighbours."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.evals.judging.runs import Curve, Key, common, curves, name_of, rescaled


class Pick(NamedTuple):
    """The checkpoint and why."""

    step: int
    tokens: int
    score: float  # smoothed
    tasks: list[str]
    curve: list[dict[str, Any]]  # step, tokens, score, smoothed
    reason: str


def pick(scores: Sequence[dict[str, Any]], kept: Iterable[Key] = (), window: int = 3) -> Pick:
    """The checkpoint with the highest mean of tasks' headline scores; of equals the later.

    Scores are (score - chance) / (1 - chance), so that tasks weigh alike; where there are texts alone, their scores,
    negative where lower is better. One checkpoint's score is noise in part: the mean over ``window`` checkpoints
    around it, cut alike on both sides near an end, is what is compared.

    Args:
        scores: lines of scores.jsonl of one training.
        kept: tasks and forms that count; none: all with a chance level, or all texts where no task has one.
        window: checkpoints.

    Raises:
        ArtifactError: no checkpoint has a score of all these tasks.
    """
    found = curves(scores)
    keys = [key for key in kept if key in found] or _all(found)
    chosen = {key: found[key] for key in keys}
    tokens = common(curve.tokens for curve in chosen.values())
    if not tokens:
        raise ArtifactError("scores.jsonl: no checkpoint has a score of every task that counts")
    means = np.mean([_values(curve, tokens) for curve in chosen.values()], axis=0)
    level = smoothed(means, window)
    best = len(level) - 1 - int(np.argmax(level[::-1]))
    steps = {line["tokens"]: line["step"] for line in scores}
    curve = [
        {"step": steps[count], "tokens": count, "score": float(mean), "smoothed": float(smooth)}
        for count, mean, smooth in zip(tokens, means, level, strict=True)
    ]
    names = [name_of(key) for key in keys]
    step = steps[tokens[best]]
    return Pick(
        step, tokens[best], float(level[best]), names, curve, _reason(curve, best, names, window)
    )


def smoothed(values: np.ndarray, window: int) -> np.ndarray:
    """Mean over up to ``window`` values around each one; cut alike on both sides near an end."""
    found = []
    for place in range(len(values)):
        reach = min(window // 2, place, len(values) - 1 - place)
        found.append(values[place - reach : place + reach + 1].mean())
    return np.array(found)


def _all(found: dict[Key, Curve]) -> list[Key]:
    return [key for key, curve in found.items() if curve.chance is not None] or list(found)


def _values(curve: Curve, tokens: list[int]) -> list[float]:
    places = [curve.tokens.index(count) for count in tokens]
    return [curve.better * rescaled(curve.values[place], curve.chance) for place in places]


def _reason(curve: list[dict[str, Any]], best: int, names: list[str], window: int) -> str:
    last = curve[-1]
    beside = "it is the last" if best == len(curve) - 1 else f"the last has {last['smoothed']:.4f}"
    return (
        f"step {curve[best]['step']} of {len(curve)} checkpoints: mean score {curve[best]['smoothed']:.4f} over"
        f" {window} checkpoints in {', '.join(names)}; {beside}"
    )
