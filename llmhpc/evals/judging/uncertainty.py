"""Standard errors of scores that are ratios of sums, such as bits per byte and accuracy."""

import math
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from typing import NamedTuple

import numpy as np


class Part(NamedTuple):
    """What one item adds to the numerator and the denominator of a score, and what it has in common with others."""

    document: str
    group: str  # of items that have their choices in common
    y: float
    x: float


def ratio_error(parts: Iterable[Part]) -> float:
    """Standard error of R = sum(y) / sum(x), where parts of one document or of one group are not independent.

    Variances of a sum over clusters, ``sum((y_c - R * x_c)**2) * m / (m - 1) / sum(x)**2`` for m clusters with
    the sums y_c and x_c (W. G. Cochran, Sampling Techniques, 3rd ed., equation 6.13 without the correction for a
    finite population; E. Miller, Adding Error Bars to Evals, arXiv:2411.00640, section 2.2), added for both kinds of
    clusters less that of their intersections: A. C. Cameron, J. B. Gelbach, D. L. Miller, Robust Inference With
    Multiway Clustering (2011), equation 2.11. Texts of one document tend to be right together, which makes the
    error larger; of four items with the same choices a model without context gets one right, which makes it
    smaller. With one item in each document and group it is sqrt(p * (1 - p) / (n - 1)).

    Returns:
        The standard error in the unit of R; nan for fewer than two documents.
    """
    parts = list(parts)
    if len({part.document for part in parts}) < 2:
        return math.nan
    total = math.fsum(part.x for part in parts)
    ratio = math.fsum(part.y for part in parts) / total

    def variance(cluster_of: Callable[[Part], Hashable]) -> float:
        sums: dict[Hashable, float] = defaultdict(float)
        for part in parts:
            sums[cluster_of(part)] += part.y - ratio * part.x
        correction = len(sums) / max(1, len(sums) - 1)
        return correction * math.fsum(residual**2 for residual in sums.values()) / total**2

    by_document = variance(lambda part: part.document)
    by_group = variance(lambda part: part.group)
    by_both = variance(lambda part: (part.document, part.group))
    variance_of_both = by_document + by_group - by_both  # where clusters are few it can be negative
    return math.sqrt(variance_of_both if variance_of_both > 0 else max(by_document, by_group))


def drawn_interval(value: float, draws: np.ndarray) -> tuple[float, float]:
    """95% of a bootstrap around ``value``: the percentiles of the draws, moved so that their mean is the value.

    A draw has the noise of the sample and its own once more, so that where noise makes a measure larger or smaller
    (a spread, a calibration error) the draws lie to one side of it.
    """
    low, high = np.nanpercentile(draws, [2.5, 97.5]) + value - np.nanmean(draws)
    return min(float(low), value), max(float(high), value)
