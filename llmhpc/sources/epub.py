"""The text of an EPUB: its chapters in order, and what its package document says of it (EPUB 3.3, and 2.0.1)."""

import re
import zipfile
import zlib
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote
from xml.etree import ElementTree

CONTAINER = "META-INF/container.xml"
CHAPTERS = {"application/xhtml+xml", "text/html"}
BLOCKS = {
    "p", "div", "h1", "h2", "h3", "h4", "h5", "h6", "li", "blockquote", "tr", "br", "section", "pre", "hr", "dt", "dd",
}  # fmt: skip
NOT_TEXT = {"head", "script", "style", "nav", "svg", "img"}
SPACE = re.compile(r"\s+")
PUBLISHED = (
    "original-publication"  # opf:event of a date; a date without event may be the file's own
)
DAMAGE = (zipfile.BadZipFile, zlib.error, ElementTree.ParseError, KeyError, EOFError, ValueError,
          NotImplementedError, RuntimeError)  # fmt: skip


class BadBook(Exception):
    """A book cannot be read; the message is the reason for the counts."""


class Epub(NamedTuple):
    """Text and metadata; year 0: the book does not say when it was published."""

    text: str
    year: int
    title: str
    author: str
    language: str


def read_epub(path: Path, max_bytes: int) -> Epub:
    """Raises BadBook if it is damaged, encrypted, or inflates to more than ``max_bytes``."""
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(Parts(archive, max_bytes))
    except DAMAGE as error:
        raise BadBook(f"damaged EPUB ({type(error).__name__})") from error


class Parts:
    """The files of an archive, of which no more than ``room`` bytes are inflated in all."""

    def __init__(self, archive: zipfile.ZipFile, room: int) -> None:
        self.archive, self.room = archive, room

    def read(self, name: str) -> bytes:
        """The bytes of one file; what its header says of its size is not trusted."""
        with self.archive.open(name) as file:
            body = file.read(self.room + 1)
        self.room -= len(body)
        if self.room < 0:
            raise BadBook("larger than max_record_mb")
        return body


def _read(parts: Parts) -> Epub:
    container = ElementTree.fromstring(parts.read(CONTAINER))
    package_name = next(e.attrib["full-path"] for e in container.iter() if _tag(e) == "rootfile")
    package = ElementTree.fromstring(parts.read(package_name))
    items = {e.attrib["id"]: e.attrib for e in package.iter() if _tag(e) == "item"}
    here = PurePosixPath(package_name).parent
    chapters = []
    for reference in (e for e in package.iter() if _tag(e) == "itemref"):
        item = items[reference.attrib["idref"]]
        if item.get("media-type") in CHAPTERS and reference.get("linear") != "no":
            chapters.append(_chapter(parts.read(str(here / unquote(item["href"])))))
    about = {}
    for name in ("title", "creator", "language"):
        found = (e.text for e in package.iter() if _tag(e) == name and e.text)
        about[name] = next(found, "").strip()
    return Epub(
        text="\n\n".join(chapter for chapter in chapters if chapter),
        year=_year(package),
        title=about["title"],
        author=about["creator"],
        language=about["language"],
    )


def _tag(element: ElementTree.Element) -> str:
    """Its name without the namespace, which EPUB 2 and 3 share but many books leave out."""
    return element.tag.rpartition("}")[2] if isinstance(element.tag, str) else ""


def _year(package: ElementTree.Element) -> int:
    """The year of the original publication, else of the latest date: of several the one that is certainly not too early."""
    dates = [
        (e, found)
        for e in package.iter()
        if _tag(e) == "date" and (found := re.search(r"\d{4}", e.text or ""))
    ]
    original = [found for e, found in dates if PUBLISHED in e.attrib.values()]
    return max(
        (int(found.group()) for found in original or [found for _, found in dates]), default=0
    )


def _chapter(body: bytes) -> str:
    """Its text; a block begins and ends a line."""
    import lxml.etree
    import lxml.html

    if body.startswith((b"\xff\xfe", b"\xfe\xff")):  # a book is in UTF-8 or UTF-16
        body = body.decode("utf-16", "replace").encode()
    try:  # XHTML, but often not well-formed
        root = lxml.html.document_fromstring(body, parser=lxml.html.HTMLParser(encoding="utf-8"))
    except lxml.etree.ParserError:  # nothing in it
        return ""
    lxml.etree.strip_elements(root, *NOT_TEXT, lxml.etree.Comment, with_tail=False)
    for element in root.iter():
        start, end = ("\n\n", "\n") if element.tag in BLOCKS else ("", "")
        element.text = start + SPACE.sub(" ", element.text or "")
        element.tail = end + SPACE.sub(" ", element.tail or "")
    lines = (SPACE.sub(" ", line).strip() for line in root.text_content().split("\n"))
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
