"""The difference of two data sets' scores on the same items, with what seeds and items each add to its variance."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class Difference:
    """A difference and the parts of its variance, all in the score's unit.

    With seeds s and items i a training's score is taken as crossed: what the seed does to all items, what the data
    does to an item, and what only this seed does to this item. Each part holds the last one, so that it is taken
    off once (``variance``).
    """

    by_seed: tuple[float, ...]
    items: float  # variance over items of the mean over seeds; the last part included
    both: float  # variance of what one seed does to one item; 0 for one seed
    freedom: float  # degrees of freedom of ``items``: clusters of items less one

    @property
    def value(self) -> float:
        """Mean over the seeds."""
        return math.fsum(self.by_seed) / len(self.by_seed)

    @property
    def count(self) -> int:
        """Seeds."""
        return len(self.by_seed)

    @property
    def seeds(self) -> float:
        """Variance over seeds of the mean over items, the last part included; 0 for one seed, which shows none."""
        return float(np.var(self.by_seed, ddof=1)) / self.count if self.count > 1 else 0.0

    @property
    def variance(self) -> float:
        """``seeds + items - both``, as expected mean squares of a crossed design give it, and no less than either.

        R. L. Brennan, Generalizability Theory (2001), for clusters of items with sums over clusters
        in place of items: A. C. Cameron, J. B. Gelbach, D. L. Miller, Robust Inference With Multiway Clustering
        (2011), equation 2.11.
        """
        return max(self.seeds + self.items - self.both, self.seeds, self.items)

    @property
    def items_alone(self) -> float:
        """What of the variance no number of seeds takes away."""
        return max(self.items - self.both, 0.0)

    @property
    def error(self) -> float:
        """Standard error."""
        return math.sqrt(self.variance)

    @property
    def reach(self) -> float:
        """Half the width of the interval: ``sqrt(t(seeds - 1)**2 * seeds + t(clusters - 1)**2 * (items - both))``.

        W. G. Howe, Approximate Confidence Limits on the Mean of X + Y (1974), and no less than the items alone give. It
        holds the true difference in 95 to 99 of 100 cases; one t with degrees of freedom after Satterthwaite
        does so in as few as 87 where seeds are two and make most of the error.
        """
        level = (1 + CONFIDENCE) / 2
        t = float(stats.t.ppf(level, self.freedom))
        of_items = t * math.sqrt(self.items)
        if self.count == 1:
            return of_items
        of_seeds = float(stats.t.ppf(level, self.count - 1)) * math.sqrt(self.seeds)
        return max(of_items, math.hypot(of_seeds, t * math.sqrt(self.items_alone)))

    @property
    def sign(self) -> int:
        """1 if the interval is above 0, -1 below, 0 if it holds 0: not decided."""
        return 0 if abs(self.value) <= self.reach else int(math.copysign(1, self.value))


def difference(
    a: tuple[np.ndarray, np.ndarray],
    b: tuple[np.ndarray, np.ndarray],
    document: np.ndarray,
    group: np.ndarray,
    scale: float = 1.0,
) -> Difference | None:
    """Score of ``a`` less that of ``b``, where a score is sum(y) / sum(x) and run s of one goes with run s of the other.

    Parts of items are those of ``llmhpc.evals.judging.uncertainty.ratio_error``: residuals of the ratio, added within
    documents and within groups.

    Args:
        a: y and x, (seeds, items) each.
        b: the same of the other.
        document: (items,) of items that are not independent.
        group: (items,) likewise.
        scale: of the difference, such as -1 where lower is better.

    Returns:
        The difference; None for fewer than two documents.
    """
    scores = [y.sum(1) / x.sum(1) for y, x in (a, b)]
    by_seed = scale * (scores[0] - scores[1])
    # (seeds, items): their sums over the items are what a seed's difference has beside the mean difference
    rest = scale * (_residuals(*a) - _residuals(*b))
    kinds = [_codes(document), _codes(group)]
    if kinds[0].max(initial=0) == 0:
        return None
    kinds.append(_codes(kinds[0] * len(document) + kinds[1]))
    parts = [_parts(rest, codes) for codes in kinds]
    items, both = (p + q - r for p, q, r in zip(*parts, strict=True))
    if items <= 0:  # where clusters are few it can be
        items, both = max(parts[:2])
    freedom = float(min(codes.max() for codes in kinds[:2]))
    return Difference(
        by_seed=tuple(by_seed.tolist()),
        items=items,
        both=min(max(both, 0.0), items),
        freedom=max(freedom, 1.0),
    )


def mean(differences: Sequence[Difference], weights: Iterable[float]) -> Difference:
    """The weighted sum of differences on tasks whose items have nothing in common, but whose seeds are the same."""
    weights = list(weights)
    pairs = list(zip(differences, weights, strict=True))
    items = [w**2 * d.items for d, w in pairs]
    spread = sum(part**2 / d.freedom for part, (d, _) in zip(items, pairs, strict=True))
    by_seed = np.sum([w * np.array(d.by_seed) for d, w in pairs], axis=0)
    return Difference(
        by_seed=tuple(by_seed.tolist()),
        items=sum(items),
        both=sum(w**2 * d.both for d, w in pairs),
        freedom=sum(items) ** 2 / spread if spread > 0 else 1.0,
    )


def _residuals(y: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(seeds, items): the part of each item in a seed's ratio, against the ratio of all seeds."""
    return (y - x * y.sum() / x.sum()) / x.sum(1, keepdims=True)


def _codes(names: np.ndarray) -> np.ndarray:
    return np.unique(names, return_inverse=True)[1]


def _parts(rest: np.ndarray, codes: np.ndarray) -> tuple[float, float]:
    """Variance of the mean over seeds through clusters of items, and that of what one seed does to one cluster."""
    seeds, clusters = len(rest), int(codes.max()) + 1
    sums_sc = np.stack([np.bincount(codes, weights=row, minlength=clusters) for row in rest])
    correction = clusters / max(1, clusters - 1)
    centred_sc = sums_sc - sums_sc.mean(1, keepdims=True)
    of_cluster = centred_sc.mean(0)
    items = correction * float((of_cluster**2).sum())
    if seeds == 1:
        return items, 0.0
    alone_sc = centred_sc - of_cluster
    return items, correction * float((alone_sc**2).sum()) / (seeds * (seeds - 1))
