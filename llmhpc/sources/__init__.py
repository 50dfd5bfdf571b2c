"""Where pages come from: one module per source, each with a ``Config`` and a function ``pages``.

A source module holds

    class Config(Source)                                     the settings; ``kind`` is the module's name
    def pages(cfg, reading: Reading) -> Iterator[Page]       the pages of one rank, in a fixed order

``pages`` deals its work to ranks by itself (see ``deal``), counts what it passes over in
``reading.skipped`` and says how far it is with ``reading.progress(done, total, unit)``.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, TypeVar

from omegaconf import MISSING

from llmhpc.errors import ConfigError

Item = TypeVar("Item")

NO_DATE = (
    "2000-01-01T00:00:00Z"  # pages of a source that knows no date: today's would change the bytes
)


@dataclass(kw_only=True, slots=True)
class Source:
    """Base of every source's settings."""

    group: ClassVar[str] = "source"

    kind: str = MISSING

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if something this source needs is not there; quick, and nothing is written."""

    def expected_bytes(self) -> int:
        """How much there is to read, compressed as it is; 0 if nobody can know before."""
        return 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Page:
    """One HTML page as it was served, and where it was found.

    ``body`` is HTML in the charset that ``content_type`` (or the page itself) names, with transfer and
    content encodings undone. ``file`` and ``offset`` say where: an address or a path relative to the
    source, and the byte in it at which the page (or its compressed record) begins.
    """

    url: str
    body: bytes
    date: str = NO_DATE  # ISO 8601, UTC: YYYY-MM-DDThh:mm:ssZ
    content_type: str = "text/html; charset=utf-8"
    file: str = ""
    offset: int = 0


@dataclass(kw_only=True)
class Reading:
    """One rank's reading of a source: which share is its own, and what it tells while it reads."""

    rank: int
    ranks: int
    progress: Callable[[float, float, str], None] = lambda done, total, unit: None
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> records not taken


def pages_of(cfg: Source, reading: Reading) -> Iterator[Page]:
    """One rank's pages of whichever source ``cfg`` is."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").pages(cfg, reading)


def deal(items: Sequence[Item], reading: Reading, what: str) -> list[Item]:
    """The items of this rank: every ``ranks``-th one. Raises ConfigError if some rank would get none."""
    enough(len(items), reading.ranks, what)
    return list(items[reading.rank :: reading.ranks])


def enough(count: int, ranks: int, what: str) -> None:
    """Raise ConfigError if ``count`` things cannot give each of ``ranks`` ranks at least one."""
    if count < ranks:
        raise ConfigError(
            f"ranks={ranks}: there are only {count} {what} to share; {count} or fewer"
        )
