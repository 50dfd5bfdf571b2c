"""Books as plain text or EPUB that are in the public domain by the year of their publication."""

import csv
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.sources import Reading, Source, Text, deal, digest, enough
from llmhpc.sources.epub import BadBook, read_epub
from llmhpc.sources.files import MB

SUFFIXES = {".txt", ".epub"}
CATALOG = (
    "catalog.csv"  # beside the books, if there is one: file,year and perhaps title,author,language
)
CATALOG_FIELDS = ("title", "author", "language")
HEAD_CHARACTERS = 5000  # of a plain text, in which its year is looked for
YEAR = r"(1[4-9]\d\d|20\d\d)"
# Lines that state the publication; Project Gutenberg's "Release date" is that of its own edition.
STATED_YEAR = re.compile(
    rf"^\s*(?:original publication|(?:first )?published|publication date|year)\s*:.*?\b{YEAR}\b",
    re.IGNORECASE | re.MULTILINE,
)
# What Project Gutenberg puts around a text (gutenberg.org: Plain text files).
GUTENBERG = re.compile(
    r"\*\*\* ?START OF (?:THE|THIS) PROJECT GUTENBERG EBOOK[^\n]*\n(.*?)(?:\*\*\* ?END OF (?:THE|THIS) PROJECT|\Z)",
    re.DOTALL,
)


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """The folder of books, and up to which year they are free."""

    selective: ClassVar[bool] = True

    kind: str = "books"
    folder: str = MISSING
    # the last year whose publications are in the public domain; in the United States 95 years after publication
    # at the end of the year (17 U.S.C. 304), so in 2026 it is 1930
    public_domain_year: int = 1930
    max_record_mb: float = 50.0  # a larger book, or one that inflates to more, is passed over

    def __post_init__(self) -> None:
        at_least(self, "max_record_mb", 0.001)
        at_least(self, "public_domain_year", 1400)

    def has_text(self) -> bool:
        """Always."""
        return True

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the folder is not there or has too few books, or its catalog is none."""
        enough(len(_books(self)), ranks, f"books in source.folder={self.folder}")
        _catalog(self)

    def expected_bytes(self) -> int:
        """The size of the files."""
        return sum(path.stat().st_size for path in _books(self))


class Book(NamedTuple):
    """A book's text, and what it says of itself; year 0: nothing."""

    text: str
    year: int
    title: str = ""
    author: str = ""
    language: str = ""


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The books of one rank, by the names of their files."""
    root, catalog = Path(cfg.folder).absolute(), _catalog(cfg)
    mine = deal(_books(cfg), reading, "books")
    for number, path in enumerate(mine):
        reading.progress(number, len(mine), "books")
        name = path.relative_to(root).as_posix()
        try:
            book = _read(path, int(cfg.max_record_mb * MB))
        except BadBook as error:
            reading.skip(str(error), name, 0)
            continue
        listed = catalog.get(name, {})
        year = int(listed.get("year") or book.year)
        if reason := _unwanted(book.text, year, cfg):
            reading.skipped[reason] += 1
            continue
        own = book._asdict()
        about = {key: listed.get(key) or own[key] for key in CATALOG_FIELDS}
        yield Text(
            id=digest(book.text),
            text=book.text,
            file=name,
            metadata={"year": year, "license": "public domain"}
            | {key: value for key, value in about.items() if value},
        )


def _unwanted(text: str, year: int, cfg: Config) -> str:
    if not text:
        return "no text"
    if not year:
        return "year of publication unknown"
    return "published after public_domain_year" if year > cfg.public_domain_year else ""


def _read(path: Path, max_bytes: int) -> Book:
    """Raises BadBook with the reason if it cannot be read or is too large."""
    if path.stat().st_size > max_bytes:
        raise BadBook("larger than max_record_mb")
    if path.suffix.lower() == ".epub":
        epub = read_epub(path, max_bytes)
        return Book(epub.text, epub.year, epub.title, epub.author, epub.language)
    try:
        text = path.read_bytes().decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        raise BadBook("not UTF-8") from None
    stated = STATED_YEAR.search(text[:HEAD_CHARACTERS])
    inside = GUTENBERG.search(text)
    return Book(
        (inside.group(1) if inside else text).strip(), int(stated.group(1)) if stated else 0
    )


def _catalog(cfg: Config) -> dict[str, dict[str, str]]:
    """File -> its row. Raises ConfigError for a catalog without the columns, or with a year that is none."""
    path = Path(cfg.folder) / CATALOG
    if not path.is_file():
        return {}
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    for number, row in enumerate(rows, 2):
        if not (row.get("file") and re.fullmatch(r"\d{3,4}", row.get("year") or "")):
            raise ConfigError(
                f"source.folder={cfg.folder}: {CATALOG}, line {number}: a file and its year"
            )
    return {row["file"]: row for row in rows}


def _books(cfg: Config) -> list[Path]:
    root = Path(cfg.folder).absolute()
    if not root.is_dir():
        raise ConfigError(f"source.folder={cfg.folder}: no such folder; a folder of .txt and .epub")
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
