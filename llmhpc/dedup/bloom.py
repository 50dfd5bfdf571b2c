"""Documents most of whose parts were seen before, by Bloom filters.

A filter for n items that says "seen" of a new one with probability p has -n ln p / (ln 2)^2 bits and
-log2 p hash functions (Bloom: Space/Time Trade-offs in Hash Coding with Allowable Errors, CACM 1970;
rbloom reckons so). Items are dealt to buckets by their hash and counted before the filters are made, so n is
known; a bucket whose filter would take more than ``memory_mb`` is taken in several passes. A filter does not
remember who put an item in: clusters/ names nobody as kept.
"""

import math
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from llmhpc.config import Phase, at_least, fraction
from llmhpc.dedup import Method
from llmhpc.errors import ConfigError
from llmhpc.task import Task


class Unit(Enum):
    """What is looked up in the filter."""

    document = "document"
    paragraph = "paragraph"  # a line that is not empty
    ngram = "ngram"  # ngram_words successive words between blanks


@dataclass(kw_only=True, slots=True)
class Config(Method):
    """Settings of Bloom deduplication. The defaults are DataComp-LM's (Li et al., arXiv 2406.11794, appendix)."""

    kind: str = "bloom"
    unit: Unit = Unit.ngram
    ngram_words: int = 13
    threshold: float = 0.8  # share of a document's different units seen before at which it goes
    false_positives: float = 0.01  # wanted share of new units that are taken for seen
    buckets: int = 1  # what units are dealt to, and the array tasks that look them up

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        at_least(self, "ngram_words", 1)
        at_least(self, "buckets", 1)
        fraction(self, "threshold", "false_positives")
        if not self.threshold:
            raise ConfigError("threshold=0: more than 0; every document would go")
        if self.false_positives in (0, 1):
            raise ConfigError(
                f"false_positives={self.false_positives:g}: more than 0 and less than 1"
            )

    def phases(self, ranks: int) -> list[Phase]:
        """Hashes of units, those that were seen, documents."""
        return [Phase("units", ranks), Phase("lookup", self.buckets), Phase("filter", ranks)]

    def bits(self, items: int) -> int:
        """The size of a filter for that many items."""
        return math.ceil(-items * math.log(self.false_positives) / math.log(2) ** 2)

    def passes(self, items: int) -> int:
        """How often a bucket is read so that its filter stays within ``memory_mb``."""
        return max(1, math.ceil(self.bits(items) / (self.memory_mb * 8_000_000)))

    def most_memory_mb(self) -> int:
        """A filter and the rows that are read for it."""
        return Method.most_memory_mb(self) + self.memory_mb


def run(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of the phases units, lookup and filter."""
    from llmhpc.dedup.blocks import seen

    if task.phase == "units":
        return seen.write_units(cfg, documents, out / "work", task)
    if task.phase == "lookup":
        return seen.write_seen(cfg, task.home / "work", out / "work", task)
    return seen.keep_new(cfg, documents, task.home / "work", out, task)
