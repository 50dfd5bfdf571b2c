"""The main text of a page by resiliparse (Bevendorff et al., ECIR 2018), some twenty times as fast as trafilatura.

Code keeps its line breaks and blanks, lists their marks. resiliparse leaves out every <ul> that is not part of another list,
as menus are written so: one that is text rather than links is made part of a description list, where it stays. A formula is
written as its TeX between dollars where the page has that: in an annotation of MathML, or in a script as MathJax takes it.
"""

from typing import cast

from resiliparse.extract.html2text import extract_plain_text
from resiliparse.parse.html import ElementNode, HTMLTree, Node

TEX = "application/x-tex"
KEPT_IN = {"li", "dd"}
MENU = "nav, header, footer, aside"
MOST_IN_LINKS = 0.5  # of a list's characters: above, it is a menu


def main_text(html: str) -> str:
    """The main text; empty if there is none."""
    page = HTMLTree.parse(html)
    if page.body is None:
        return ""
    _keep_lists(page, page.body)
    _write_formulas(page, page.body)
    return extract_plain_text(
        page, preserve_formatting=True, main_content=True, comments=False, alt_texts=False
    ).strip()


def _keep_lists(page: HTMLTree, body: ElementNode) -> None:
    for items in list(body.query_selector_all("ul")):
        parent = items.parent_element
        if parent is None or parent.tag in KEPT_IN or items.closest(MENU) is not None:
            continue
        in_links = sum(len(link.text or "") for link in items.query_selector_all("a"))
        if in_links <= MOST_IN_LINKS * len(items.text or ""):
            outer, inner = (cast(ElementNode, page.create_element(tag)) for tag in ("dl", "dd"))
            items.replace_with(outer)
            outer.append_child(inner)
            inner.append_child(items)


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
