"""Standard errors of scores that are ratios of sums, such as bits per byte and accuracy."""

import math
from collections import defaultdict
from collections.abc import Iterable


def ratio_error(parts: Iterable[tuple[str, float, float]]) -> float:
    """Standard error of R = sum(y) / sum(x), where parts of one document are not independent.

    With y_i, x_i the sums over document i of m documents and x' the mean of x_i,
    ``se = sqrt(sum((y_i - R * x_i)**2) / (m * (m - 1))) / x'``: W. G. Cochran, Sampling Techniques, 3rd
    ed., equation 6.13 without the correction for a finite population. For bits per byte y are bits and
    x bytes; for accuracy y are right answers and x items, which makes it the clustered standard error of
    E. Miller, Adding Error Bars to Evals (arXiv:2411.00640), section 2.2, times sqrt(m / (m - 1)). With one item in
    each document it is sqrt(p * (1 - p) / (n - 1)).

    Args:
        parts: (document, y, x) in any order.

    Returns:
        The standard error in the unit of R; nan for fewer than two documents.
    """
    sums: dict[str, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for document, y, x in parts:
        sums[document][0] += y
        sums[document][1] += x
    documents = len(sums)
    if documents < 2:
        return math.nan
    total = math.fsum(x for _, x in sums.values())
    ratio = math.fsum(y for y, _ in sums.values()) / total
    squares = math.fsum((y - ratio * x) ** 2 for y, x in sums.values())
    return math.sqrt(squares / (documents * (documents - 1))) / (total / documents)
