"""fastText classifiers: trained so that the same texts give the same file, and the scores they give."""

import json
import os
import subprocess
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from fasttext.FastText import _FastText

from llmhpc.errors import StageError
from llmhpc.task import check_child

PREFIX = "__label__"  # fastText takes every word that begins so for a label
SCORE_DIGITS = 4  # the last digits of a float32 sum differ between processors
STEPS = 100  # of the curve
CLEAR_MEMORY = {"MALLOC_PERTURB_": "255"}  # mallopt(3): memory is set to the complement, 0
CHILD = """
import json, sys, fasttext
request = json.loads(sys.argv[1])
model = fasttext.train_supervised(request["texts"], thread=1, verbose=0, **request["settings"])
if request["quantize"]:
    model.quantize(request["texts"], thread=1)
model.save_model(request["path"])
"""


def one_line(text: str) -> str:
    """A text as fastText reads it, in training and in scoring: words with single blanks between."""
    return " ".join(text.replace(PREFIX, "").split())


def train(
    rows: Iterable[tuple[str, str]], path: Path, quantize: bool = False, **settings: float
) -> None:
    """Write a classifier of (label, text) to ``path``; their order counts. One thread: no run differs from another.

    With one thread fastText 0.9.2 fills a tenth of its matrix and reads the rest as malloc left it, which
    gives NaN or another model every time. Training has a process of its own, in which glibc clears memory.
    """
    texts = path.with_name("texts")
    with texts.open("w", encoding="utf-8") as file:
        file.writelines(f"{PREFIX}{label} {one_line(text)}\n" for label, text in rows)
    request = {"texts": str(texts), "path": str(path), "quantize": quantize, "settings": settings}
    done = subprocess.run(
        [sys.executable, "-c", CHILD, json.dumps(request)],
        env=os.environ | CLEAR_MEMORY,
        capture_output=True,
        text=True,
        check=False,
    )
    texts.unlink()
    check_child(done.returncode)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [f"exit status {done.returncode}"]
        raise StageError(f"fastText with {settings}: {last[0]}")


def scorer(model: _FastText, label: str) -> Callable[[str], float]:
    """The function that gives a text's probability of ``label``."""
    wanted = PREFIX + label

    def score(text: str) -> float:
        labels, scores = model.predict(one_line(text), k=-1)
        return round(
            min(float(dict(zip(labels, scores, strict=True)).get(wanted, 0.0)), 1.0), SCORE_DIGITS
        )

    return score


def labeller(model: _FastText) -> Callable[[str], tuple[str, float]]:
    """The function that gives a text's most probable label and its probability."""

    def best(text: str) -> tuple[str, float]:
        labels, scores = model.predict(one_line(text), k=1)
        return labels[0].removeprefix(PREFIX), round(min(float(scores[0]), 1.0), SCORE_DIGITS)

    return best


def labels_of(model: _FastText) -> list[str]:
    """The labels that a model knows, without their prefix."""
    return sorted(label.removeprefix(PREFIX) for label in model.labels)


@cache
def load(path: Path) -> _FastText:
    """The model of a file, once for all variants of a rule."""
    return _FastText(str(path))


def curve(good: Sequence[float], bad: Sequence[float], keep_rate: float) -> dict[str, Any]:
    """Precision and recall of "score > threshold" on held-out scores, and the threshold for a keep rate.

    ``keep_rate`` is the largest share of ``bad`` that is to score above the threshold.
    """
    good, bad = sorted(good), sorted(bad)
    threshold = bad[-1 - int(keep_rate * len(bad))] if keep_rate < 1 else 0.0
    return {
        "heldout": {"good": len(good), "bad": len(bad)},
        "keep_rate": keep_rate,
        "threshold": threshold,
        "at_threshold": _point(good, bad, threshold),
        "points": [_point(good, bad, step / STEPS) for step in range(STEPS)],
    }


def _point(good: Sequence[float], bad: Sequence[float], threshold: float) -> dict[str, float]:
    """Rates at one threshold; precision is 1 where nothing is above it."""
    hits, false = (len(scores) - bisect_right(scores, threshold) for scores in (good, bad))
    return {
        "threshold": threshold,
        "precision": round(hits / (hits + false), 6) if hits + false else 1.0,
        "recall": round(hits / len(good), 6),
        "kept_of_bad": round(false / len(bad), 6),
    }
