"""The evaluations of several trainings as numbers: score curves, and what each item adds to a score."""

import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from llmhpc.errors import ArtifactError
from llmhpc.evals.files import ITEMS, SCORES

NAMES = ("item", "hash", "document", "group")
COLUMNS = ("tokens", "task", "form", *NAMES, "y", "x")  # what answers() reads

Key = tuple[str, str]  # task, form


class Run(NamedTuple):
    """The evaluation of one training: the lines of scores.jsonl and the rows of items/."""

    data: str  # what it was trained on
    seed: int
    scores: list[dict[str, Any]]
    items: pa.Table


class Curve(NamedTuple):
    """The score that stands for a task in one form, over the checkpoints of one training."""

    metric: str
    chance: float | None  # None: of a text, which is not guessed
    higher_is_better: bool
    tokens: list[int]  # of the checkpoints, rising
    values: np.ndarray  # (checkpoints,)
    errors: np.ndarray  # (checkpoints,), standard errors over the items; nan where not known

    @property
    def better(self) -> int:
        """1 if a higher score is better, else -1."""
        return 1 if self.higher_is_better else -1


class Answers(NamedTuple):
    """What each item adds to a score, sum(y) / sum(x), at each checkpoint."""

    tokens: list[int]  # of the checkpoints, rising
    item: np.ndarray  # (items,), rising ids
    hash: np.ndarray  # (items,), of what the model saw
    document: np.ndarray  # (items,)
    group: np.ndarray  # (items,)
    y: np.ndarray  # (checkpoints, items)
    x: np.ndarray  # (checkpoints, items)

    def chosen(self, tokens: Sequence[int], items: Iterable[str]) -> "Answers":
        """The same for some of its checkpoints and items."""
        rows = [self.tokens.index(count) for count in tokens]
        places = np.searchsorted(self.item, sorted(items))
        return Answers(
            list(tokens),
            self.item[places],
            self.hash[places],
            self.document[places],
            self.group[places],
            self.y[rows][:, places],
            self.x[rows][:, places],
        )


def read(folder: Path, data: str, seed: int, columns: Iterable[str] = COLUMNS) -> Run:
    """The run that an evaluate step's directory holds, with these columns of its items.

    Raises:
        ArtifactError: a file is missing.
    """
    paths = sorted((folder / ITEMS).glob("*.parquet"))
    if not paths or not (folder / SCORES).exists():
        raise ArtifactError(f"{folder}: no {SCORES} or no {ITEMS}/*.parquet; an evaluate step")
    lines = (folder / SCORES).read_text().splitlines()
    items = pa.concat_tables([pq.read_table(path, columns=sorted(columns)) for path in paths])
    return Run(data, seed, [json.loads(line) for line in lines], items)


def headlines(scores: Iterable[dict[str, Any]]) -> dict[Key, list[dict[str, Any]]]:
    """Of each task and form the lines of the score that stands for it, by rising tokens."""
    found: dict[Key, list[dict[str, Any]]] = {}
    for line in scores:
        if line["headline"]:
            found.setdefault((line["task"], line["form"]), []).append(line)
    return {key: sorted(found[key], key=lambda line: line["tokens"]) for key in sorted(found)}


def curves(scores: Iterable[dict[str, Any]]) -> dict[Key, Curve]:
    """The curve of each task and form."""
    return {key: _curve(lines) for key, lines in headlines(scores).items()}


def _curve(lines: list[dict[str, Any]]) -> Curve:
    return Curve(
        metric=lines[-1]["metric"],
        chance=lines[-1]["chance"],
        higher_is_better=lines[-1]["higher_is_better"],
        tokens=[line["tokens"] for line in lines],
        values=np.array([line["value"] for line in lines], float),
        errors=np.array([line["stderr"] or math.nan for line in lines], float),
    )


def answers(items: pa.Table) -> dict[Key, Answers]:
    """The answers to each task in each form whose score is such a ratio.

    Raises:
        ArtifactError: the checkpoints were not asked the same items.
    """
    items = items.filter(pc.and_(pc.is_valid(items["y"]), pc.is_valid(items["x"])))
    pairs = items.select(["task", "form"]).group_by(["task", "form"]).aggregate([])
    keys = sorted(zip(pairs["task"].to_pylist(), pairs["form"].to_pylist(), strict=True))
    return {key: _answers(items, key) for key in keys}


def _answers(items: pa.Table, key: Key) -> Answers:
    task, form = key
    mask = pc.and_(pc.equal(items["task"], task), pc.equal(items["form"], form))
    rows = items.filter(mask).sort_by([("tokens", "ascending"), ("item", "ascending")])
    tokens = pc.unique(rows["tokens"]).to_pylist()
    each, left = divmod(len(rows), len(tokens))
    seen = rows["hash"].to_numpy()
    if left or (seen.reshape(len(tokens), each) != seen[:each]).any():
        raise ArtifactError(f"{task}/{form}: the checkpoints were not asked the same items")
    first = {name: rows[name][:each].to_numpy().astype(str) for name in NAMES}
    y, x = (rows[name].to_numpy().astype(float).reshape(len(tokens), each) for name in ("y", "x"))
    return Answers(tokens=tokens, y=y, x=x, **first)


def common(series: Iterable[Iterable[Any]]) -> list[Any]:
    """What all of them hold, in order; nothing for none."""
    sets = [set(values) for values in series]
    return sorted(set.intersection(*sets)) if sets else []


def rescaled(value: float, chance: float | None) -> float:
    """0 at chance and 1 for all right: (value - chance) / (1 - chance); a text's score as it is."""
    return value if chance is None else (value - chance) / (1 - chance)


def by_data(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """The runs of each data set, by seed."""
    found: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: (run.data, run.seed)):
        found.setdefault(run.data, []).append(run)
    return found


def name_of(key: Key) -> str:
    """<task>/<form>, as files and tables have it."""
    return "/".join(key)
