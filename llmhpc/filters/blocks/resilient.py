"""The main text of a page by resiliparse (Bevendorff et al., ECIR 2018), some twenty times as fast as trafilatura.

Code keeps its line breaks and blanks, lists their marks. resiliparse leaves out every <ul> that is not part of another list,
as menus are written so: one that is text rather than links is made part of a description list, where it stays. A formula is
written as its TeX between dollars where the page has that: in an annotation of MathML, or in a script as MathJax takes it.
"""

import re
from typing import cast

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import ElementNode, HTMLTree, Node

TEX = "application/x-tex"
HAS_FORMULA = re.compile(r"<math\b|math/tex", re.IGNORECASE)
# What a list stands in, and what is in it. In the text of the page: asking its tree takes as long as all the rest.
MARK = re.compile(r"<(/?)(ul|nav|header|footer|aside|a)\b[^>]*>", re.IGNORECASE)
TAG = re.compile(r"<[^>]*>")
MOST_IN_LINKS = 0.5  # of a list's characters: above, it is a menu


def main_text(html: str) -> str:
    """The main text; empty if there is none."""
    html = keep_lists(html)
    page: str | HTMLTree = html
    if HAS_FORMULA.search(html):
        page = HTMLTree.parse(html)
        if page.body is not None:
            _write_formulas(page, page.body)
    return extract_plain_text(
        page, preserve_formatting=True, main_content=True, comments=False, alt_texts=False
    ).strip()


def whole_text(html: str) -> str:
    """All text of the page that is seen; empty if there is none."""
    return extract_plain_text(html, main_content=False, alt_texts=False).strip()


def keep_lists(html: str) -> str:
    """The page with its outermost lists of text, those in menus and frames apart, inside <dl><dd>."""
    parts, written = [], 0
    start, depth, frames, in_links, link = 0, 0, 0, 0, -1
    for mark in MARK.finditer(html):
        closes, name = mark.group(1), mark.group(2).lower()
        if name == "a":
            if closes and link >= 0:
                in_links += len(TAG.sub("", html[link : mark.start()]))
            link = -1 if closes or not depth else mark.end()
        elif name != "ul":
            frames = max(0, frames + (-1 if closes else 1))
        elif not closes:
            if not depth:
                start, in_links = mark.start(), 0
            depth += 1
        elif depth:
            depth -= 1
            items = html[start : mark.end()]
            if not (depth or frames) and in_links <= MOST_IN_LINKS * len(TAG.sub("", items)):
                parts += [html[written:start], "<dl><dd>", items, "</dd></dl>"]
                written = mark.end()
    return "".join([*parts, html[written:]])


def _write_formulas(page: HTMLTree, body: ElementNode) -> None:
    for formula in list(body.query_selector_all("math")):
        note = formula.query_selector(f'annotation[encoding="{TEX}"]')
        tex = note.text if note is not None else formula.getattr("alttext")
        if tex:
            formula.replace_with(cast(Node, page.create_text_node(f" ${tex.strip()}$ ")))
    for script in list(body.query_selector_all('script[type^="math/tex"]')):
        marks = "$$" if "display" in (script.getattr("type") or "") else "$"
        tex = f" {marks}{(script.text or '').strip()}{marks} "
        script.replace_with(cast(Node, page.create_text_node(tex)))
