"""Dumps of a wiki, as MediaWiki writes them: wikitext to text, shared out, damaged."""

import bz2
import random
from xml.sax.saxutils import escape

import pytest

from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Reading, texts_of, wikipedia
from llmhpc.sources.wikitext import Names, plain_text

HEAD = """<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.11/" xml:lang="de">
  <siteinfo>
    <sitename>Wikipedia</sitename>
    <dbname>dewiki</dbname>
    <base>https://de.wikipedia.org/wiki/Wikipedia:Hauptseite</base>
    <namespaces>
      <namespace key="0" case="first-letter" />
      <namespace key="6" case="first-letter">Datei</namespace>
      <namespace key="14" case="first-letter">Kategorie</namespace>
    </namespaces>
  </siteinfo>
"""
ARTICLE = """{{Infobox river|length={{convert|5|km}}}}
'''Example''' is a ''river''<ref>A book.</ref> near [[Paris|the capital]] and [[London]].<!-- no -->
[[Datei:Map.png|thumb|A map of [[London]]]] It is {{convert|12|km|mi}} long&nbsp;&amp; {{lang|fr|belle}} ({{unknown|x}}).

== Flow ==
The energy is <math>E = \\frac{1}{2} m v^2</math>.
* first
* second [https://example.org here]

{| class="wikitable"
! Place !! Height
|-
| Source || 812
|-
| [[Mouth]] || 3
|}

== Empty ==
== Code ==
<syntaxhighlight lang="python">x = [[1]]</syntaxhighlight>

== References ==
<references/>
[[Kategorie:Rivers]]"""
PLAIN = """Example is a river near the capital and London.
It is 12 km long & belle.

## Flow

The energy is $E = \\frac{1}{2} m v^2$.
- first
- second here

| Place | Height |
| Source | 812 |
| Mouth | 3 |

## Code

x = [[1]]"""


def page(number, text, space=0, redirect=False):
    to = '\n    <redirect title="Other" />' if redirect else ""
    return f"""  <page>
    <title>Page {number} & more</title>
    <ns>{space}</ns>
    <id>{number}</id>{to}
    <revision>
      <id>{number}7</id>
      <timestamp>2024-03-01T12:00:00Z</timestamp>
      <model>wikitext</model>
      <text bytes="9" xml:space="preserve">{escape(text)}</text>
    </revision>
  </page>
""".replace(" & ", " &amp; ")


def article(number):
    return f"Article {number}:\n" + random.Random(number).randbytes(300).hex(" ", 5)


def write_dump(path, pages, per_stream=5):
    """As the multistream dumps are: the head, then so many pages a stream."""
    bodies = ["".join(pages[n : n + per_stream]) for n in range(0, len(pages), per_stream)]
    streams = [text.encode() for text in (HEAD, *bodies, "</mediawiki>\n")]
    pack = bz2.compress if path.suffix == ".bz2" else bytes
    path.write_bytes(b"".join(map(pack, streams)))
    return path


def read(cfg, rank=0, ranks=1):
    notes = []
    reading = Reading(rank=rank, ranks=ranks, note=notes.append)
    return list(texts_of(cfg, reading)), reading.skipped, notes


def test_wikitext_becomes_text_with_its_tables_and_formulas():
    names = Names(not_text=frozenset({"datei", "kategorie"}))
    assert plain_text(ARTICLE, names) == PLAIN


def test_a_page_knows_its_title_address_date_and_licence(tmp_path):
    path = write_dump(tmp_path / "a.xml.bz2", [page(3, ARTICLE)])
    (text,), _, _ = read(wikipedia.Config(dump=str(path)))
    assert text.id == "dewiki/3"
    assert text.text == f"# Page 3 & more\n\n{PLAIN}"
    assert text.metadata == {
        "url": "https://de.wikipedia.org/wiki/Page_3_%26_more",
        "date": "2024-03-01T12:00:00Z",
        "license": "CC-BY-SA-4.0",
    }
    assert (
        bz2.BZ2Decompressor().decompress(path.read_bytes()[text.offset :]).startswith(b"  <page>")
    )


def test_redirects_other_namespaces_and_stubs_are_counted(tmp_path):
    pages = [page(1, article(1)), page(2, article(2), redirect=True), page(3, article(3), space=1)]
    path = write_dump(tmp_path / "a.xml", [*pages, page(4, "Short.")])
    found, skipped, notes = read(wikipedia.Config(dump=str(path)))
    assert [text.id for text in found] == ["dewiki/1"] and not notes
    assert skipped == {"redirect": 1, "other namespace": 1, "shorter than min_characters": 1}


@pytest.mark.parametrize("name", ["a.xml", "a.xml.bz2"])
@pytest.mark.parametrize("ranks", [2, 3, 7])
def test_each_page_is_read_by_exactly_one_rank(tmp_path, name, ranks):
    cfg = wikipedia.Config(
        dump=str(write_dump(tmp_path / name, [page(n, article(n)) for n in range(99)]))
    )
    whole = [text.id for text in read(cfg)[0]]
    assert whole == [f"dewiki/{n}" for n in range(99)]
    shares = [[text.id for text in read(cfg, rank, ranks)[0]] for rank in range(ranks)]
    assert [name for share in shares for name in share] == whole and all(shares)


def test_a_page_that_streams_cut_in_pieces_is_read_once(tmp_path):
    body = (HEAD + "".join(page(n, article(n)) for n in range(60)) + "</mediawiki>\n").encode()
    path = tmp_path / "a.xml.bz2"  # as pbzip2 compresses: wherever a block is full
    path.write_bytes(b"".join(bz2.compress(body[n : n + 999]) for n in range(0, len(body), 999)))
    cfg = wikipedia.Config(dump=str(path))
    shares = [[text.id for text in read(cfg, rank, 5)[0]] for rank in range(5)]
    assert [name for share in shares for name in share] == [f"dewiki/{n}" for n in range(60)]


def test_damage_costs_the_pages_of_its_stream_and_a_broken_page_itself(tmp_path):
    pages = [page(n, article(n)) for n in range(50)]
    path = write_dump(tmp_path / "a.xml.bz2", pages)
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2 : len(damaged) // 2 + 40] = random.Random(4).randbytes(40)
    path.write_bytes(damaged)
    found, skipped, notes = read(wikipedia.Config(dump=str(path)))
    numbers = [int(text.id.split("/")[1]) for text in found]
    assert 40 <= len(numbers) < 50 and numbers[-1] == 49
    assert skipped["damaged bz2 stream"] == 1 and notes[0]["source"] == "a.xml.bz2"
    pages[7] = pages[7].replace("</revision>", "</revisio>")
    pages[9] = pages[9].replace("  </page>\n", "")
    pages[11] = page(11, "x" * 200_000)
    cfg = wikipedia.Config(dump=str(write_dump(tmp_path / "b.xml", pages)), max_record_mb=0.1)
    found, skipped, notes = read(cfg)
    assert [n for n in range(50) if f"dewiki/{n}" not in {t.id for t in found}] == [7, 9, 11]
    assert skipped == {
        "page that cannot be parsed": 1,
        "page without an end": 1,
        "larger than max_record_mb": 1,
    }
    body = (tmp_path / "b.xml").read_bytes()
    assert all(body[place["source_offset"] :].startswith(b"  <page>") for place in notes[:2])


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ConfigError, match="source.dump=a.xml.gz: an .xml or .xml.bz2 file"):
        wikipedia.Config(dump="a.xml.gz").before_launch(1)
    with pytest.raises(ConfigError, match="source.dump=/no/such.xml: no such file"):
        wikipedia.Config(dump="/no/such.xml").before_launch(1)
    (tmp_path / "empty.xml").touch()
    with pytest.raises(StageError, match="source.dump=.*empty.xml: empty, or"):
        read(wikipedia.Config(dump=str(tmp_path / "empty.xml")))
    (tmp_path / "a.xml").write_text("<html></html>\n")
    with pytest.raises(StageError, match="no <siteinfo> at its start"):
        read(wikipedia.Config(dump=str(tmp_path / "a.xml")))
    path = tmp_path / "one.xml.bz2"
    path.write_bytes(bz2.compress((HEAD + page(1, article(1))).encode()))
    with pytest.raises(StageError, match="the part of rank 1; fewer ranks"):
        read(wikipedia.Config(dump=str(path)), 1, 2)
