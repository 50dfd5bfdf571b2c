"""Wikitext as plain text: prose, headings, lists, tables row by row, formulas as TeX; templates mostly go.

What a template prints is written in another page of the wiki, so only those whose arguments are their text
are kept. A page whose nesting is too deep for the parser raises RecursionError.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mwparserfromhell.nodes import Node, Tag, Template, Wikilink
    from mwparserfromhell.wikicode import Wikicode

# English and therefore valid in every wiki (mediawiki.org: Help:Namespaces); a dump names its own beside.
FILES_AND_CATEGORIES = {"file", "image", "category"}
NOT_TEXT = {
    "ref",
    "references",
    "gallery",
    "timeline",
    "imagemap",
    "score",
    "templatestyles",
    "indicator",
}
FORMULAS = {"math", "chem", "ce"}
VERBATIM = {"nowiki", "pre", "code", "syntaxhighlight", "source"}
BLOCKS = {"br", "p", "div", "blockquote", "poem", "hr"}
# Templates of the English Wikipedia that print an argument of theirs: name -> which one, from 1; 0: the last.
PRINTED = {
    **dict.fromkeys(("lang", "transliteration", "transl", "color", "abbr"), 0),
    **dict.fromkeys(("nowrap", "nobr", "math", "mvar", "em", "strong", "smallcaps", "small"), 1),
    **dict.fromkeys(("blockquote", "quote", "cquote", "langnf", "vanchor", "sub", "sup"), 1),
}
MEASURED = {"convert", "cvt"}  # prints its first two arguments: the value and its unit
SPACES = re.compile(r"[ \t\xa0]+")
GAPS = re.compile(r"\n{3,}")
EMPTY_BRACKETS = re.compile(r"\s?\(\s*[,;:\s]*\)")
SURROGATES = re.compile(r"[\ud800-\udfff]")
HEADING = re.compile(r"^(#+) ")


@dataclass(kw_only=True, slots=True)
class Names:
    """What a wiki calls its namespaces of files and categories, in lower case."""

    not_text: frozenset[str] = frozenset(FILES_AND_CATEGORIES)


def plain_text(wikitext: str, names: Names) -> str:
    """The text of a page; a heading begins with as many # as its level, and one with nothing below it is left out."""
    import mwparserfromhell

    text = _text(mwparserfromhell.parse(wikitext).nodes, names)
    text = EMPTY_BRACKETS.sub("", SURROGATES.sub("\N{REPLACEMENT CHARACTER}", text))
    lines = (SPACES.sub(" ", line).strip() for line in text.split("\n"))
    return GAPS.sub("\n\n", "\n".join(_with_something_below(lines))).strip()


def _with_something_below(lines: Iterable[str]) -> list[str]:
    """The lines without headings that end where the next one of their level begins."""
    kept: list[str] = []
    waiting: list[str] = []  # headings with nothing below them yet
    for line in lines:
        if found := HEADING.match(line):
            level = len(found.group(1))
            waiting = [h for h in waiting if len(h) - len(h.lstrip("#")) < level] + [line]
        elif line:
            kept += [part for heading in waiting for part in ("", heading, "")]
            waiting = []
            kept.append(line)
        else:
            kept.append(line)
    return kept


def _text(nodes: "Iterable[Node]", names: Names) -> str:
    return "".join(_node(node, names) for node in nodes)


def _inside(code: "Wikicode | None", names: Names) -> str:
    return _text(code.nodes, names) if code is not None else ""


def _node(node: "Node", names: Names) -> str:
    from mwparserfromhell import nodes

    if isinstance(node, nodes.Text):
        return str(node.value)
    if isinstance(node, nodes.Wikilink):
        return _link(node, names)
    if isinstance(node, nodes.Tag):
        return _tag(node, names)
    if isinstance(node, nodes.Template):
        return _template(node, names)
    if isinstance(node, nodes.Heading):
        return f"\n{'#' * node.level} {_inside(node.title, names).strip()}\n"
    if isinstance(node, nodes.ExternalLink):
        return _inside(node.title, names) if node.brackets else str(node.url)
    if isinstance(node, nodes.HTMLEntity):
        return str(node.normalize())
    return ""  # comments, and the arguments of a template's own page


def _link(link: "Wikilink", names: Names) -> str:
    title = str(link.title).strip()
    space = title.partition(":")[0].strip().lower() if ":" in title else ""
    if space in names.not_text:  # a link to such a page, not the picture, begins with a colon
        return ""
    return _inside(link.text, names) if link.text is not None else title.lstrip(":")


def _template(template: "Template", names: Names) -> str:
    name = str(template.name).strip().lower()
    values = [p.value for p in template.params if not p.showkey]
    if name in MEASURED and len(values) > 1:
        return " ".join(_inside(value, names).strip() for value in values[:2])
    place = PRINTED.get(name)
    if place is None or not values:
        return ""
    return _inside(values[place - 1], names)  # 0: the last one


def _tag(tag: "Tag", names: Names) -> str:
    name = str(tag.tag).strip().lower()
    if name in NOT_TEXT:
        return ""
    if name in FORMULAS:
        return f"${str(tag.contents or '').strip()}$"
    if name in VERBATIM:
        return str(tag.contents or "")
    if name == "table":
        return f"\n\n{_table(tag, names)}\n\n"
    if name in ("td", "th"):
        return f"{' '.join(_inside(tag.contents, names).split())} | "
    if name in ("li", "dt", "dd"):  # as a mark of wikitext it has no contents: its text follows
        return f"- {_inside(tag.contents, names)}" if name == "li" else _inside(tag.contents, names)
    if name == "tr":  # the first row of a table may have no tag of its own
        return f"\n{_inside(tag.contents, names)}\n"
    end = "\n" if name in BLOCKS else ""
    return f"{_inside(tag.contents, names)}{end}"


def _table(table: "Tag", names: Names) -> str:
    """A line for each row, its cells between bars."""
    lines = _inside(table.contents, names).split("\n")
    rows = (line.strip().removesuffix("|").rstrip() for line in lines)
    return "\n".join(f"| {row} |" for row in rows if row)
