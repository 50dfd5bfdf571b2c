"""Whether a model's probabilities of letters are what they say, and whether it can choose a letter at all."""

from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from llmhpc.evals.judging.uncertainty import drawn_interval

LETTERS = "letters"
BINS = 10  # of equal width; Guo et al. have 15 for ten times the items
DRAWS = 400
COLUMNS = ("tokens", "task", "form", "document", "gold", "logprobs")


class Questions(NamedTuple):
    """Letter questions of one task at one checkpoint; a question may have fewer letters than another."""

    probabilities: np.ndarray  # (items, letters), 0 where a question has no such letter
    there: np.ndarray  # (items, letters): the question has this letter
    gold: np.ndarray  # (items, letters): this letter is right
    document: np.ndarray  # (items,)

    @property
    def confidence(self) -> np.ndarray:
        """(items,): the probability of the letter that is chosen."""
        return self.probabilities.max(1)

    @property
    def correct(self) -> np.ndarray:
        """(items,): whether the letter that is chosen is right."""
        return self.gold[np.arange(len(self.gold)), self.probabilities.argmax(1)]


def calibration(items: pa.Table) -> dict[str, dict[str, Any]]:
    """By task with letters: reliability of the last checkpoint, and the error over all of them. Plain JSON values."""
    found: dict[str, dict[str, Any]] = {}
    letters = items.filter(pc.equal(items["form"], LETTERS))
    for task in sorted(pc.unique(letters["task"]).to_pylist()):
        mine = letters.filter(pc.equal(letters["task"], task))
        steps = sorted(pc.unique(mine["tokens"]).to_pylist())
        asked = [questions(mine.filter(pc.equal(mine["tokens"], count))) for count in steps]
        last = asked[-1]
        error, interval, if_calibrated = expected_calibration_error(last)
        found[task] = {
            "tokens": steps[-1],
            "items": len(last.document),
            "expected_calibration_error": error,
            "interval": interval,
            "if_calibrated": if_calibrated,
            "accuracy": float(last.correct.mean()),
            "mean_confidence": float(last.confidence.mean()),
            "bins": reliability(last),
            "letters": letter_prior(last),
            "curve": [
                {"tokens": count, "expected_calibration_error": _error(one.confidence, one.correct)}
                for count, one in zip(steps, asked, strict=True)
            ],
        }
    return found


def questions(rows: pa.Table) -> Questions:
    """Letter questions as arrays: softmax over the log-likelihoods of a question's letters."""
    logprobs, gold = rows["logprobs"].to_pylist(), rows["gold"].to_pylist()
    shape = len(logprobs), max(map(len, logprobs))
    scores, right = np.full(shape, -np.inf), np.zeros(shape, bool)
    for place, (row, answers) in enumerate(zip(logprobs, gold, strict=True)):
        scores[place, : len(row)] = row
        right[place, answers] = True
    weights = np.exp(scores - scores.max(1, keepdims=True))
    probabilities = weights / weights.sum(1, keepdims=True)
    return Questions(
        probabilities, np.isfinite(scores), right, rows["document"].to_numpy().astype(str)
    )


def reliability(asked: Questions) -> list[dict[str, float]]:
    """Of each bin of confidence that holds items: its edges, mean confidence, accuracy and items."""
    places = _bins(asked.confidence)
    found = []
    for place in np.unique(places):
        inside = places == place
        found.append(
            {
                "low": place / BINS,
                "high": (place + 1) / BINS,
                "confidence": float(asked.confidence[inside].mean()),
                "accuracy": float(asked.correct[inside].mean()),
                "items": int(inside.sum()),
            }
        )
    return found


def expected_calibration_error(
    asked: Questions,
) -> tuple[float, tuple[float, float], tuple[float, float]]:
    """``sum(items of bin / items * |accuracy - confidence|)`` over bins (C. Guo et al., arXiv:1706.04599, equation 3).

    Returns:
        The error; its 95% interval by a bootstrap over documents; and of a model with these confidences that is
        calibrated the middle 95% of errors: with few items even that one's is not 0 (J. Bröcker, L. A. Smith,
        Increasing the Reliability of Reliability Diagrams, 2007).
    """
    draw = np.random.default_rng(0)
    confidence, correct = asked.confidence, asked.correct
    error = _error(confidence, correct)
    names, codes = np.unique(asked.document, return_inverse=True)
    share = np.full(len(names), 1 / len(names))
    weights = draw.multinomial(len(names), share, size=DRAWS)[:, codes]
    low, high = drawn_interval(error, _error(confidence, correct, weights))
    chances = draw.random((DRAWS, len(confidence))) < confidence
    least, most = np.percentile(_error(confidence, chances), [2.5, 97.5])
    return error, (max(low, 0.0), high), (float(least), float(most))


def _bins(confidence: np.ndarray) -> np.ndarray:
    """Which bin each item is in; the edge between two belongs to the upper."""
    return np.minimum((confidence * BINS).astype(int), BINS - 1)


def _error(confidence: np.ndarray, correct: np.ndarray, weights: Any = 1.0) -> Any:
    """The error for ``correct`` or ``weights`` of (items,) or (draws, items)."""
    inside = np.eye(BINS)[_bins(confidence)]  # (items, bins)
    gaps = np.abs((weights * (correct - confidence)) @ inside).sum(-1)
    error = gaps / (weights * np.ones(len(confidence))).sum(-1)
    return float(error) if np.ndim(error) == 0 else error


def letter_prior(asked: Questions) -> list[dict[str, Any]]:
    """Of each letter: its mean probability, how often it is chosen and how often it is right, where there is one."""
    chosen = np.eye(asked.there.shape[1])[asked.probabilities.argmax(1)]
    counts = asked.there.sum(0)
    return [
        {
            "letter": chr(ord("A") + place),
            "probability": float(asked.probabilities[:, place].sum() / counts[place]),
            "chosen": float(chosen[:, place].sum() / counts[place]),
            "right": float(asked.gold[:, place].sum() / counts[place]),
        }
        for place in range(asked.there.shape[1])
    ]
