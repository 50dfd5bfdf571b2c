"""The XML dump of a wiki: its articles as text.

Every rank reads a stretch of the file: of a .bz2 the streams that begin in it (dumps called multistream have
one for every 100 pages), of plain XML the lines. So all ranks together read the file once, no index is needed,
and a page belongs to the rank in whose stretch it begins. Pages are cut out as text and parsed one by one:
damage costs the pages it touches.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, NamedTuple
from urllib.parse import quote
from xml.etree import ElementTree

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import NO_DATE, Reading, Source, Text
from llmhpc.sources.files import MB
from llmhpc.sources.lines import CODECS, Codec, Damage, Line, Skip, lines, parts
from llmhpc.sources.wikitext import FILES_AND_CATEGORIES, Names, plain_text

PAGE, PAGE_END = b"  <page>", b"  </page>"  # as MediaWiki writes them, each on its own line
HEAD_BYTES = 1 << 20  # siteinfo is within the first 10 KB
BZ2 = CODECS[".bz2"]
FILE_SPACE, CATEGORY_SPACE = "6", "14"  # mediawiki.org: Manual:Namespace constants


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """The dump, and which of its pages."""

    kind: str = "wikipedia"
    dump: str = (
        MISSING  # .xml or .xml.bz2, a path or an address; of several ranks: plain or multistream
    )
    namespaces: list[int] = field(default_factory=lambda: [0])  # 0: articles
    min_characters: int = 200  # of text; shorter: a stub or a page of templates
    max_record_mb: float = 50.0  # a larger page is passed over
    license: str = "CC-BY-SA-4.0"  # the text's own (Wikimedia: Terms of Use, section 7)

    def __post_init__(self) -> None:
        at_least(self, "max_record_mb", 0.001)
        at_least(self, "min_characters", 0)

    def has_text(self) -> bool:
        """Always."""
        return True

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the file is not there, or its name is of no kind that can be read."""
        if not self.dump.endswith((".xml", ".bz2")):
            raise ConfigError(f"source.dump={self.dump}: an .xml or .xml.bz2 file")
        if "://" not in self.dump and not Path(self.dump).is_file():
            raise ConfigError(f"source.dump={self.dump}: no such file")

    def expected_bytes(self) -> int:
        """The size of a local file."""
        return 0 if "://" in self.dump else Path(self.dump).stat().st_size


class Site(NamedTuple):
    """What the dump's first lines say of its wiki."""

    base: str  # the address that titles are appended to
    name: str  # as in enwiki
    names: Names


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The articles of one rank. Raises StageError if the file is not a dump, or no page begins in this rank's part."""
    import fsspec

    fs, path = fsspec.core.url_to_fs(cfg.dump)
    size, codec = fs.size(path), BZ2 if path.endswith(".bz2") else None
    source = Path(path).name
    if not size:
        raise StageError(
            f"source.dump={cfg.dump}: empty, or its server does not tell its size; a copy"
        )

    def skip(reason: str, offset: int) -> None:
        reading.skip(reason, source, offset)

    with fs.open(path, "rb") as file:
        site = _site(file, codec, cfg.dump)
        start, stop = (size * rank // reading.ranks for rank in (reading.rank, reading.rank + 1))
        offset = -1
        for offset, raw in _pages(file, codec, (start, stop), skip, int(cfg.max_record_mb * MB)):
            reading.progress(offset - start, stop - start, "bytes")
            text = _article(raw, site, cfg, reading, (source, offset))
            if text is not None:
                yield text
    if offset < 0:
        raise StageError(
            f"source.dump={cfg.dump}: no page begins in bytes {start} to {stop}, the part of rank"
            f" {reading.rank}; fewer ranks, or for .bz2 the multistream dump"
        )


def _site(file: BinaryIO, codec: Codec | None, name: str) -> Site:
    head = b""
    for _, line in lines(file, codec, lambda reason, offset: None, HEAD_BYTES):
        head += line + b"\n"
        if b"</siteinfo>" in line or len(head) > HEAD_BYTES:
            break
    found = re.search(rb"<siteinfo>.*</siteinfo>", head, re.DOTALL)
    if not found:
        raise StageError(
            f"source.dump={name}: no <siteinfo> at its start; a dump of MediaWiki has it"
        )
    info = ElementTree.fromstring(found.group())
    spaces = {
        (space.text or "").lower()
        for space in info.iter("namespace")
        if space.get("key") in (FILE_SPACE, CATEGORY_SPACE)
    }
    base = (info.findtext("base") or "").rpartition("/")[0] + "/"
    names = Names(not_text=frozenset(FILES_AND_CATEGORIES | spaces - {""}))
    return Site(base, info.findtext("dbname") or "wiki", names)


def _pages(
    file: BinaryIO, codec: Codec | None, stretch: tuple[int, int], skip: Skip, max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """(offset in the file of the page or of its stream, XML) of the pages that begin in ``stretch``."""
    page = _Page(skip, max_bytes)
    read = _lines if codec is None else _lines_of_streams
    for offset, line in read(file, stretch[0], page.lose, max_bytes):
        if offset >= stretch[1] and (line == PAGE or not page.inside):
            break
        if line == PAGE:
            page.begin(offset)
        elif page.inside:
            page.add(line)
            if line == PAGE_END and page.inside:
                yield page.offset, page.end()
    if page.inside:
        page.lose("page without an end", page.offset)


class _Page:
    """The page that is being read."""

    def __init__(self, skip: Skip, max_bytes: int) -> None:
        self.skip, self.max_bytes = skip, max_bytes
        self.lines: list[bytes] = []
        self.offset = self.size = 0
        self.inside = False

    def begin(self, offset: int) -> None:
        """A page begins; if another one is open, its end is lost."""
        if self.inside:
            self.skip("page without an end", self.offset)
        self.lines, self.offset, self.size, self.inside = [PAGE], offset, len(PAGE), True

    def add(self, line: bytes) -> None:
        """Append to it."""
        self.size += len(line)
        self.lines.append(line)
        if self.size > self.max_bytes:
            self.lose("larger than max_record_mb", self.offset)

    def lose(self, reason: str, offset: int) -> None:
        """Something in it, or between two pages, cannot be read."""
        self.skip(reason, offset)
        self.lines, self.inside = [], False

    def end(self) -> bytes:
        """All of it."""
        self.inside = False
        return b"\n".join(self.lines)


def _lines(file: BinaryIO, start: int, skip: Skip, max_bytes: int) -> Iterator[tuple[int, bytes]]:
    """(offset, line) of the lines that begin at ``start`` or behind."""
    first = max(0, start - 1)  # if a newline is there, a line begins at start
    file.seek(first)
    for offset, line in lines(file, None, lambda why, at: skip(why, first + at), max_bytes):
        if offset or not start:
            yield first + offset, line


def _lines_of_streams(
    file: BinaryIO, start: int, skip: Skip, max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """(offset at which its stream begins, line) of the lines that begin in streams from ``start`` on."""
    begins = start
    line = Line(lambda why, at: skip(why, begins), max_bytes)
    for begin, part in parts(file, BZ2, start):
        if isinstance(part, Damage):
            line.tear(part.reason)
            continue
        first, *others = part.split(b"\n")
        begins = begins if line.size else begin
        line.add(first)
        for other in others:
            for _, whole in line.end():
                yield begins, whole
            begins = begin
            line.add(other)


def _article(
    raw: bytes, site: Site, cfg: Config, reading: Reading, place: tuple[str, int]
) -> Text | None:
    """The text of a page; None, and counted, if it is none that is asked for or cannot be parsed."""
    from mwparserfromhell.parser import ParserError

    try:
        page = ElementTree.fromstring(raw)
        if reason := _unwanted(page, cfg):
            reading.skipped[reason] += 1
            return None
        body = plain_text(page.findtext("revision/text") or "", site.names)
    except (ElementTree.ParseError, ParserError, RecursionError, ValueError):
        reading.skip("page that cannot be parsed", *place)
        return None
    if len(body) < cfg.min_characters:
        reading.skipped["shorter than min_characters"] += 1
        return None
    title = page.findtext("title") or ""
    return Text(
        id=f"{site.name}/{page.findtext('id')}",
        text=f"# {title}\n\n{body}",
        file=place[0],
        offset=place[1],
        metadata={
            "url": site.base + quote(title.replace(" ", "_")),
            "date": page.findtext("revision/timestamp") or NO_DATE,
            "license": cfg.license,
        },
    )


def _unwanted(page: ElementTree.Element, cfg: Config) -> str:
    """Why a page is not asked for; empty if it is."""
    space, model = page.findtext("ns") or "", page.findtext("revision/model") or "wikitext"
    if not space.isdigit() or int(space) not in cfg.namespaces:
        return "other namespace"
    if page.find("redirect") is not None:
        return "redirect"
    return "" if model == "wikitext" else f"{model} page"
