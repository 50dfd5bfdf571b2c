"""Where data comes from: one module per source, each with a ``Config`` and a function ``pages`` or ``texts``.

A source module holds

    class Config(Source)                                     the settings; ``kind`` is the module's name
    def pages(cfg, reading: Reading) -> Iterator[Page]       the HTML pages of one rank, in a fixed order
    def texts(cfg, reading: Reading) -> Iterator[Text]       or its documents, if ``cfg.has_text()``

Both deal their work to ranks by themselves (see ``deal``), count what is not theirs to give in
``reading.skipped``, what is damaged or too large with ``reading.skip``, which keeps its place, and say how
far they are with ``reading.progress(done, total, unit)``.
"""

import hashlib
import importlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, TypeVar

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
    selective: ClassVar[bool] = False  # True: there may be nothing in a rank's share that is wanted

    kind: str = MISSING

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if something this source needs is not there; quick, and nothing is written."""

    def expected_bytes(self) -> int:
        """How much there is to read, compressed as it is; 0 if nobody can know before."""
        return 0

    def has_text(self) -> bool:
        """True if what it gives is text, of which no page has to be taken apart."""
        return False


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


@dataclass(frozen=True, kw_only=True, slots=True)
class Text:
    """One document, and where it was found; ``metadata`` has what else is known: url, date, license, year.

    ``file`` and ``offset`` as in ``Page``; in a compressed file of lines the offset counts inflated bytes.
    ``id`` must not depend on where the source lies or on which rank reads it.
    """

    id: str
    text: str
    file: str = ""
    offset: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        """As the stages behind read it: a line of documents/."""
        where = {"source": self.file, "source_offset": self.offset}
        return {"text": self.text, "id": self.id, "metadata": self.metadata | where}


@dataclass(kw_only=True)
class Reading:
    """One rank's reading of a source: which share is its own, and what it tells while it reads."""

    rank: int
    ranks: int
    progress: Callable[[float, float, str], None] = lambda done, total, unit: None
    skipped: Counter[str] = field(default_factory=Counter)  # reason -> records not taken
    note: Callable[[dict[str, Any]], None] = lambda place: None  # told the place of what was lost

    def skip(self, reason: str, file: str, offset: int) -> None:
        """Pass over something that should have been read: it is counted, and its place is kept."""
        self.skipped[reason] += 1
        self.note({"reason": reason, "source": file, "source_offset": offset})


def pages_of(cfg: Source, reading: Reading) -> Iterator[Page]:
    """One rank's pages of whichever source ``cfg`` is."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").pages(cfg, reading)


def texts_of(cfg: Source, reading: Reading) -> Iterator[Text]:
    """One rank's documents of whichever source ``cfg`` is."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").texts(cfg, reading)


def digest(text: str) -> str:
    """The id of a document that has none: copies of one text get the same, and so land in the same split."""
    return hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()


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
