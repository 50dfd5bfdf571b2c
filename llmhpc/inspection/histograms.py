"""Histograms with bins that are fixed beforehand, so that those of several ranks add up exactly.

A bin is a sixteenth of an octave: numbers that agree in sign, exponent and the four bits behind the leading one.
"""

import math
from collections import Counter
from collections.abc import Iterable
from typing import Any

from llmhpc.inspection.piles import Piece

STEPS = 16  # bins of an octave
NO_SCORES = ("source_offset", "warc_offset", "bytes_removed")  # numbers in metadata that are places
Key = tuple[str, str, str]  # step, fate, what was measured


def low_edge(value: float) -> float:
    """The lower end of the bin that ``value`` is in; of bins below zero the upper end is part, not the lower."""
    if value < 0:
        return -high_edge(low_edge(-value))
    mantissa, exponent = math.frexp(value)
    return math.ldexp(math.floor(mantissa * 2 * STEPS), exponent) / (2 * STEPS)


def high_edge(low: float) -> float:
    """The other end of the bin; 0 has a bin to itself."""
    if low < 0:
        return -low_edge(math.nextafter(-low, 0))
    mantissa, exponent = math.frexp(low)
    return math.ldexp(math.floor(mantissa * 2 * STEPS) + (low > 0), exponent) / (2 * STEPS)


class Histograms:
    """Of the lengths of documents, and of every number in their metadata."""

    def __init__(self) -> None:
        self.bins: dict[Key, Counter[float]] = {}

    def add(self, piece: Piece, tokens: int | None) -> None:
        """Count a document; parts of documents and pages, also those without main text, are left out."""
        if piece.text is None or not piece.has_text or not piece.whole:
            return
        lengths = {"characters": len(piece.text), "tokens": tokens}
        for name, value in (lengths | piece.metadata).items():
            if type(value) in (int, float) and name not in NO_SCORES and math.isfinite(value):
                key = (piece.step, piece.fate, name)
                self.bins.setdefault(key, Counter())[low_edge(value)] += 1

    def record(self) -> list[dict[str, Any]]:
        """As JSON: for each step, fate and quantity the bins [low, high, documents]."""
        return [
            {
                "step": step,
                "fate": fate,
                "of": name,
                "bins": [[low, high_edge(low), count] for low, count in sorted(bins.items())],
            }
            for (step, fate, name), bins in sorted(self.bins.items())
        ]

    def merge(self, record: Iterable[dict[str, Any]]) -> None:
        """Add those of another rank."""
        for one in record:
            bins = self.bins.setdefault((one["step"], one["fate"], one["of"]), Counter())
            for low, _, count in one["bins"]:
                bins[low] += count
