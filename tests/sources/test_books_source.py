"""Books of known years, as plain text and as EPUB: read, cut out, refused, bounded."""

import random
import zipfile
from collections import Counter

import pytest

from llmhpc.errors import ConfigError
from llmhpc.sources import Reading, books, texts_of
from llmhpc.sources.epub import BadBook, read_epub

PROSE = "It was a bright morning in the village, and the miller went to the river.\n" * 5
CONTAINER = """<?xml version="1.0"?>
<container version="1.0" xmlns="urn:oasis:names:tc:opendocument:xmlns:container">
  <rootfiles><rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles>
</container>"""
PACKAGE = """<?xml version="1.0"?>
<package xmlns="http://www.idpf.org/2007/opf" xmlns:opf="http://www.idpf.org/2007/opf" version="2.0">
  <metadata xmlns:dc="http://purl.org/dc/elements/1.1/">
    <dc:title>The River</dc:title><dc:creator>A. Writer</dc:creator><dc:language>en</dc:language>{dates}
  </metadata>
  <manifest>
    <item id="b" href="two.xhtml" media-type="application/xhtml+xml"/>
    <item id="a" href="chapter%20one.xhtml" media-type="application/xhtml+xml"/>
    <item id="c" href="cover.jpg" media-type="image/jpeg"/>
  </manifest>
  <spine><itemref idref="a"/><itemref idref="c"/><itemref idref="b"/></spine>
</package>"""
ONE = """<?xml version="1.0" encoding="utf-8"?>
<html xmlns="http://www.w3.org/1999/xhtml"><head><title>No</title><style>p {}</style></head>
<body><h1>Chapter
  one</h1><p>Café on the <i>river</i> bank.<!-- no --></p><p>A second<br/>line.</p></body></html>"""
TWO = "<html><body><p>The end.<script>no()</script></p></body></html>"
DATE = "<dc:date>{}</dc:date>"
FIRST = '<dc:date opf:event="original-publication">{}</dc:date>'


def write_epub(path, dates, two=TWO):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("mimetype", "application/epub+zip", zipfile.ZIP_STORED)
        archive.writestr("META-INF/container.xml", CONTAINER)
        archive.writestr("OEBPS/book.opf", PACKAGE.format(dates=dates))
        archive.writestr("OEBPS/chapter one.xhtml", ONE)
        archive.writestr("OEBPS/two.xhtml", two)
    return path


def read(cfg, rank=0, ranks=1):
    notes = []
    reading = Reading(rank=rank, ranks=ranks, note=notes.append)
    return list(texts_of(cfg, reading)), reading.skipped, notes


def test_an_epub_gives_its_chapters_in_the_order_of_reading(tmp_path):
    book = read_epub(write_epub(tmp_path / "a.epub", DATE.format("1899-05-01")), 10**6)
    assert book.text == ("Chapter one\n\nCafé on the river bank.\n\nA second\n\nline.\n\nThe end.")
    assert (book.year, book.title, book.author, book.language) == (
        1899,
        "The River",
        "A. Writer",
        "en",
    )


@pytest.mark.parametrize("two", ["", " ", "<!-- nothing -->", "<html></html>"])
def test_an_empty_chapter_costs_nothing(tmp_path, two):
    book = read_epub(write_epub(tmp_path / "a.epub", DATE.format("1899"), two=two), 10**6)
    assert book.text.endswith("A second\n\nline.")


@pytest.mark.parametrize(
    ("dates", "year"),
    [
        ("", 0),
        (DATE.format("unknown"), 0),
        (
            DATE.format("1899") + DATE.format("2004-01-01"),
            2004,
        ),  # the later one: nothing says which it is
        (FIRST.format("1899") + DATE.format("2004-01-01"), 1899),
    ],
)
def test_the_year_of_an_epub_is_never_taken_too_early(tmp_path, dates, year):
    assert read_epub(write_epub(tmp_path / "a.epub", dates), 10**6).year == year


def test_books_are_taken_by_the_year_of_their_publication(tmp_path):
    write_epub(tmp_path / "old.epub", FIRST.format(1899))
    write_epub(tmp_path / "new.epub", FIRST.format(1931))
    write_epub(tmp_path / "nobody-knows.epub", "")
    (tmp_path / "stated.txt").write_text(
        f"Title: X\nOriginal publication: London: Y, 1897\n\n{PROSE}"
    )
    (tmp_path / "gutenberg.txt").write_text(
        f"Release date: 1999\nFirst published: 1911\n*** START OF THE PROJECT GUTENBERG EBOOK X ***\n"
        f"\n{PROSE}\n*** END OF THE PROJECT GUTENBERG EBOOK X ***\nlicence\n"
    )
    (tmp_path / "unstated.txt").write_text(f"Release date: 1999\n{PROSE}")
    (tmp_path / "listed.txt").write_text(PROSE[::-1])
    (tmp_path / "catalog.csv").write_text("file,year,title\nlisted.txt,1850,Backwards\n")
    found, skipped, notes = read(books.Config(folder=str(tmp_path)))
    years = {text.file: text.metadata["year"] for text in found}
    assert years == {
        "gutenberg.txt": 1911,
        "listed.txt": 1850,
        "old.epub": 1899,
        "stated.txt": 1897,
    }
    assert skipped == {"published after public_domain_year": 1, "year of publication unknown": 2}
    texts = {text.file: text for text in found}
    assert texts["gutenberg.txt"].text == PROSE.strip()
    assert texts["listed.txt"].metadata["title"] == "Backwards" and not notes
    later, _, _ = read(books.Config(folder=str(tmp_path), public_domain_year=1931))
    assert "new.epub" in {text.file for text in later}


def test_a_bad_or_giant_book_costs_itself(tmp_path):
    good = write_epub(tmp_path / "a.epub", FIRST.format(1899))
    body = bytearray(good.read_bytes())
    (tmp_path / "cut.epub").write_bytes(body[: len(body) // 2])
    middle = body.index(b"OEBPS/book.opf") + 60
    body[middle : middle + 30] = random.Random(5).randbytes(30)
    (tmp_path / "damaged.epub").write_bytes(body)
    write_epub(tmp_path / "bomb.epub", FIRST.format(1899), two="<p>" + " " * 3_000_000)
    (tmp_path / "latin.txt").write_bytes("Year: 1899\ncafé".encode("latin-1"))
    (tmp_path / "large.txt").write_text("Year: 1899\n" + PROSE * 5000)
    found, skipped, notes = read(books.Config(folder=str(tmp_path), max_record_mb=1))
    assert [text.file for text in found] == ["a.epub"]
    reasons = Counter(reason.partition(" (")[0] for reason in skipped.elements())
    assert reasons == {"damaged EPUB": 2, "larger than max_record_mb": 2, "not UTF-8": 1}
    assert {note["source"] for note in notes} == {
        *("bomb.epub", "cut.epub", "damaged.epub", "large.txt", "latin.txt"),
    }
    with pytest.raises(BadBook, match="larger than max_record_mb"):
        read_epub(tmp_path / "bomb.epub", 1_000_000)


def test_books_are_dealt_to_the_ranks_without_loss(tmp_path):
    for number in range(7):
        (tmp_path / f"{number}.txt").write_text(f"Year: 1899\nBook {number}\n{PROSE}")
    cfg = books.Config(folder=str(tmp_path))
    shares = [[text.file for text in read(cfg, rank, 3)[0]] for rank in range(3)]
    assert shares == [["0.txt", "3.txt", "6.txt"], ["1.txt", "4.txt"], ["2.txt", "5.txt"]]


def test_what_is_set_wrongly_is_named(tmp_path):
    with pytest.raises(ConfigError, match="source.folder=/no/such: no such folder"):
        books.Config(folder="/no/such").before_launch(1)
    (tmp_path / "a.txt").write_text(PROSE)
    (tmp_path / "catalog.csv").write_text("file,year\na.txt,about 1900\n")
    with pytest.raises(ConfigError, match="catalog.csv, line 2: a file and its year"):
        books.Config(folder=str(tmp_path)).before_launch(1)
