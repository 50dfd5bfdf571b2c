"""Extraction by the fast engine, and by one engine or the other as a page's address has it."""

import os
import time

import pytest

from llmhpc.errors import ConfigError, StageError
from llmhpc.filters import Engine, Extraction
from llmhpc.filters.blocks import extract, resilient
from llmhpc.jobs import filter as stage
from llmhpc.sources import Page, archive
from llmhpc.task import Task

PROSE = "The library keeps the old books of the town and lends them to whoever asks for them. " * 4
PAGE = f"""<html><head><title>t</title></head><body>
<nav class="menu"><ul><li><a href="/">Start page</a></li><li><a href="/b">Products</a></li></ul></nav>
<div id="cookie-banner">We use cookies.</div><article><h1>Heading</h1><p>{PROSE}</p>
<p>A formula <math><semantics><mrow><mi>x</mi></mrow><annotation encoding="application/x-tex">x^2</annotation></semantics></math>
and <script type="math/tex">y_1</script> and <script type="math/tex; mode=display">\\sum z</script>.</p>
<pre><code>def f(x):
    return x  +  1
</code></pre><ul><li>first item of a list with many words</li><li>second item of a list with many words</li></ul><p>{PROSE}</p></article>
<div class="comments"><p>A comment by somebody.</p></div><footer>Copyright and terms of use</footer></body></html>"""


def run(tmp_path, pages, **settings):
    archive.write(pages, tmp_path / "pages" / "warc" / "00000.warc.gz")
    cfg = stage.Config(extract=Extraction(**settings))
    task = Task(phase="main", rank=0, ranks=1, seed=0, home=tmp_path / "out")
    return stage.run(cfg, {"pages": tmp_path / "pages"}, tmp_path / "out", task)


def page(name, html=PAGE):
    return Page(url=f"https://{name}", body=html.encode())


def test_the_fast_engine_keeps_formulas_code_and_lists_and_leaves_the_frame():
    text = resilient.main_text(PAGE)
    assert "A formula $x^2$ and $y_1$ and $$\\sum z$$" in " ".join(text.split())
    assert "def f(x):\n    return x  +  1\n" in text
    assert "• first item of a list" in text
    for frame in ("Products", "cookies", "comment", "Copyright"):
        assert frame not in text


@pytest.mark.parametrize(("html", "kept"), [
    ("<ul><li>one text<li>and <a>more</a> of it</ul>", True),
    ("<UL class=x><li>one<ul><li>two</ul></UL>", True),
    ("<ul><li><a href=/>Home</a><li><a><b>B</b></a></ul>", False),
    ("<nav><ul><li>one text</ul></nav>", False),
    ("</ul><ul><li>never closed", False),
])  # fmt: skip
def test_lists_of_text_are_told_from_menus(html, kept):
    assert resilient.keep_lists(f"a{html}b") == (
        f"a<dl><dd>{html}</dd></dl>b" if kept else f"a{html}b"
    )


def test_a_page_has_the_engine_of_the_first_line_that_its_address_fits():
    cfg = Extraction(engines={"docs.example.org": Engine.fast, "*/wiki/*": Engine.fast})
    fast = ["https://docs.example.org/a", "http://x.docs.example.org/", "https://e.org/wiki/A"]
    assert [cfg.engine_of(url) for url in fast] == [Engine.fast] * 3
    for url in ("https://example.org/docs", "https://mydocs.example.org/", ""):
        assert cfg.engine_of(url) is Engine.trafilatura


def test_an_address_with_its_protocol_is_refused():
    with pytest.raises(ConfigError, match="engines.https://e.org: a domain such as example.org"):
        Extraction(engines={"https://e.org": Engine.fast})


def test_each_domain_is_extracted_by_its_own_engine(tmp_path, read_documents):
    pages = [page("fast.org/a"), page("other.org/a")]
    run(tmp_path, pages, engines={"fast.org": Engine.fast})
    quick, slow = (document["text"] for document in read_documents(tmp_path / "out"))
    assert "$x^2$" in quick and "$x^2$" not in slow


def test_a_page_that_hangs_or_kills_the_engine_is_dropped_and_the_rank_goes_on(
    tmp_path, monkeypatch, read_documents
):
    real = resilient.main_text

    def hurt(html):
        if "HANG" in html:
            time.sleep(60)
        if "CRASH" in html:
            os._exit(1)
        return real(html)

    monkeypatch.setattr(resilient, "main_text", hurt)
    pages = [page("e.org/1"), page("e.org/2", "HANG"), page("e.org/3", "CRASH"), page("e.org/4")]
    counts = run(tmp_path, pages, engine=Engine.fast, timeout_s=1)
    assert counts["documents"] == 2
    assert counts["extract"]["reasons"] == {"timeout": 1, "crash": 1}


def test_a_missing_package_of_the_fast_engine_fails_the_rank(tmp_path, monkeypatch):
    monkeypatch.setattr(extract, "RESILIENT", "llmhpc.filters.blocks.no_such_module")
    with pytest.raises(StageError, match="a package of the filter stage is missing"):
        run(tmp_path, [page("e.org/1")], engine=Engine.fast)
