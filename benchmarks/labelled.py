"""Pages whose main text is known: real texts of installed packages, set into page frames of many kinds.

A text is what a package says of itself (the long description in its metadata, Markdown), as HTML: headings, paragraphs,
lists, tables and code. Its label is the text of that HTML. A frame is everything else that a page has: menus, cookie
banners, comments, lists of related pages, footers, laid out as documentation sites, blogs, newspapers, wikis, forums and
shops do it, with element and class names as such sites use them. What stands in a frame is drawn by the page's number.
"""

import html
import importlib.metadata
import random
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LEAST_CHARACTERS = 1500  # of a text: shorter ones say little of how an extractor treats a page
WORD = re.compile(r"\w+")
TAG = re.compile(r"<[^>]+>")
BLANKS = re.compile(r"\s+")

PLACES = [
    "Home",
    "Products",
    "Docs",
    "Blog",
    "Pricing",
    "Support",
    "About",
    "Careers",
    "Community",
    "Download",
    "Tutorials",
    "Reference",
    "Changelog",
    "Login",
    "Register",
    "Archive",
    "Events",
    "Partners",
    "Contact",
    "Imprint",
]
NAMES = [
    "Alice",
    "Bo",
    "Chandra",
    "Dmitri",
    "Eve",
    "Fatima",
    "Guo",
    "Hana",
    "Ines",
    "Jonas",
    "Kim",
    "Luis",
    "Mara",
    "Nils",
    "Olu",
    "Priya",
]
REMARKS = [
    "Thanks for this, it saved me an afternoon.",
    "I get an error on Windows when I follow the second step, does anybody else see that?",
    "First! Great post as always.",
    "Could you write a follow-up about deployment? We have been looking for something like it.",
    "This did not work for me until I cleared the cache and restarted the whole machine.",
    "@Guo you need the newer version, the old one has been broken since March.",
    "Have a look at my site for cheap offers!!!",
    "Please correct the typo in the third paragraph.",
]
TEASERS = [
    "Ten things we learnt from running a large cluster",
    "Why your tests are slow and what to do about it",
    "The week in review: releases, talks and a surprise",
    "How a small team moved two hundred services",
    "Opinion: the case for boring technology",
    "Photo gallery: inside the data centre",
    "Quiz: how well do you know your shell?",
    "An interview with the maintainers",
]
COOKIES = (
    "We use cookies to personalise content and ads, to provide social media features and to analyse "
    "our traffic. You can change your choice at any time in our privacy settings."
)
LEGAL = (
    "All rights reserved. Use of this site is subject to the terms of use and the privacy policy."
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """One page with its main text."""

    name: str
    page: str
    text: str


def labelled_pages(count: int) -> list[Labelled]:
    """``count`` pages, texts and frames taken in turn, so that every text meets several frames."""
    texts = _texts()
    found = []
    for number in range(count):
        name, body = texts[number % len(texts)]
        frame = FRAMES[(number + number // len(texts)) % len(FRAMES)]
        page = frame(name, body, random.Random(number))
        found.append(Labelled(f"{name}/{frame.__name__.strip('_')}", page, plain(body)))
    return found


def labelled_folder(folder: Path) -> list[Labelled]:
    """Pages ``x.html`` of a folder, each with its main text in ``x.txt`` beside it."""
    pages = sorted(folder.rglob("*.html"))
    if lonely := [page for page in pages if not page.with_suffix(".txt").is_file()]:
        raise SystemExit(f"--labelled {folder}: {lonely[0]} has no main text; x.txt beside x.html")
    if not pages:
        raise SystemExit(
            f"--labelled {folder}: no *.html there; x.html with its main text in x.txt"
        )
    read = [(page, page.with_suffix(".txt")) for page in pages]
    return [
        Labelled(p.stem, p.read_text("utf-8", "replace"), t.read_text("utf-8")) for p, t in read
    ]


def f1(found: str, label: str) -> float:
    """The harmonic mean of precision and recall over the words of both, each as often as it occurs."""
    from collections import Counter

    one, other = Counter(WORD.findall(found)), Counter(WORD.findall(label))
    common = (one & other).total()
    return 2 * common / max(1, one.total() + other.total())


def plain(body: str) -> str:
    """The text of a piece of HTML without scripts."""
    return BLANKS.sub(" ", html.unescape(TAG.sub(" ", body))).strip()


def _texts() -> list[tuple[str, str]]:
    from markdown_it import MarkdownIt

    render = MarkdownIt("commonmark", {"html": False}).enable("table").render
    texts = {}
    for package in importlib.metadata.distributions():
        about = package.metadata
        kind = about.get("Description-Content-Type") or ""
        words = about.get_payload() or about.get("Description") or ""
        if kind.startswith("text/markdown") and len(words) >= LEAST_CHARACTERS:
            # raw HTML in Markdown is badges and pictures: as text it would be no main text
            texts[about["Name"]] = render(TAG.sub("", words))
    return sorted(texts.items())


def _links(
    draw: random.Random, least: int, most: int, item: str = '<li><a href="/{0}">{0}</a></li>'
) -> str:
    return "".join(item.format(name) for name in draw.sample(PLACES, draw.randint(least, most)))


def _teasers(draw: random.Random, count: int) -> str:
    return "".join(
        f'<li><a href="/t{n}">{t}</a></li>' for n, t in enumerate(draw.sample(TEASERS, count))
    )


def _remarks(draw: random.Random, item: str) -> str:
    said = draw.sample(REMARKS, draw.randint(2, 6))
    return "".join(item.format(draw.choice(NAMES), text) for text in said)


def _page(name: str, head: str, body: str, attributes: str = "") -> str:
    return (
        f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(name)}</title>'
        f"{head}<script>window.dataLayer=[];function gtag(){{dataLayer.push(arguments)}}</script>"
        f"<style>body{{margin:0}}.nav a{{color:#036}}</style></head><body{attributes}>{body}</body></html>"
    )


def _handbook(name: str, body: str, draw: random.Random) -> str:
    return _page(name, '<link rel="stylesheet" href="_static/theme.css">', f"""
<div class="wy-grid-for-nav"><nav data-toggle="wy-nav-shift" class="wy-nav-side"><div class="wy-side-scroll">
<a href="index.html" class="icon icon-home">{name}</a><div role="search"><form><input placeholder="Search docs"></form></div>
<div class="wy-menu wy-menu-vertical"><p class="caption">Contents</p><ul>{_links(draw, 8, 18)}</ul></div></div></nav>
<section class="wy-nav-content-wrap"><div class="rst-content"><div role="navigation" aria-label="Page navigation">
<ul class="wy-breadcrumbs"><li><a href="/">Docs</a> &raquo;</li><li>{name}</li><li><a href="_sources/x.rst">View page source</a></li></ul></div>
<div role="main" class="document"><div itemprop="articleBody">{body}</div></div>
<footer><a href="next.html" class="btn">Next</a><a href="prev.html" class="btn">Previous</a><hr>
<div role="contentinfo"><p>&copy; Copyright 2024, the authors. {LEGAL}</p></div>Built with Sphinx using a theme provided by Read the Docs.</footer>
</div></section></div>""")  # fmt: skip


def _reference(name: str, body: str, draw: random.Random) -> str:
    return _page(name, "", f"""
<div id="__docusaurus"><div role="region" aria-label="Skip to main content"><a href="#c">Skip to main content</a></div>
<nav class="navbar navbar--fixed-top"><div class="navbar__items">{_links(draw, 4, 8, '<a class="navbar__item" href="/{0}">{0}</a>')}</div></nav>
<div class="main-wrapper"><aside class="theme-doc-sidebar-container"><ul class="menu__list">{_links(draw, 8, 16)}</ul></aside>
<main class="docMainContainer"><div class="container"><article><div class="theme-doc-markdown markdown">{body}</div>
<footer class="theme-doc-footer"><a href="/edit">Edit this page</a> Last updated on <time>Mar 3, 2024</time></footer></article>
<nav class="pagination-nav"><a href="/p">Previous</a><a href="/n">Next</a></nav></div>
<div class="table-of-contents"><ul>{_links(draw, 3, 8)}</ul></div></main></div>
<footer class="footer"><div class="footer__links"><ul>{_links(draw, 6, 12)}</ul></div><div>{LEGAL}</div></footer></div>""")  # fmt: skip


def _weblog(name: str, body: str, draw: random.Random) -> str:
    remark = '<li class="comment"><div class="comment-author vcard">{0} says:</div><p>{1}</p><a class="comment-reply-link" href="#">Reply</a></li>'
    return _page(name, "", f"""
<div id="page" class="hfeed site"><header id="masthead" class="site-header"><h1 class="site-title"><a href="/">A developer's notebook</a></h1>
<nav id="site-navigation" class="main-navigation"><ul class="menu">{_links(draw, 5, 9)}</ul></nav></header>
<div id="content" class="site-content"><div id="primary"><main id="main" class="site-main"><article class="post hentry">
<header class="entry-header"><h1 class="entry-title">{name}</h1><div class="entry-meta">Posted on <time>March 3, 2024</time> by {draw.choice(NAMES)}</div></header>
<div class="entry-content">{body}</div><footer class="entry-footer">Posted in <a href="/c">Software</a> | Tagged <a href="/t">python</a></footer></article>
<div id="comments" class="comments-area"><h2 class="comments-title">Thoughts on this post</h2><ol class="comment-list">{_remarks(draw, remark)}</ol>
<div id="respond"><h3>Leave a Reply</h3><p>Your email address will not be published. Required fields are marked *</p><form><textarea></textarea></form></div></div></main></div>
<aside id="secondary" class="widget-area"><section class="widget"><h2>Recent Posts</h2><ul>{_teasers(draw, 5)}</ul></section>
<section class="widget"><h2>Archives</h2><ul>{_links(draw, 4, 8)}</ul></section></aside></div>
<footer id="colophon" class="site-footer">Proudly powered by WordPress. {LEGAL}</footer></div>""", ' class="single single-post"')  # fmt: skip


def _newspaper(name: str, body: str, draw: random.Random) -> str:
    return _page(name, '<meta property="og:type" content="article">', f"""
<div id="onetrust-banner-sdk" class="otFlat" role="dialog"><p>{COOKIES}</p><button>Accept all</button><button>Reject all</button></div>
<header class="site-header"><div class="masthead">The Daily Example</div><nav class="sections"><ul>{_links(draw, 8, 14)}</ul></nav></header>
<div class="ad-slot" data-ad="top">Advertisement</div><article class="story"><header><h1>{name}</h1><p class="byline">By {draw.choice(NAMES)}, technology correspondent</p></header>
<div class="share-tools"><a href="#">Share</a><a href="#">Tweet</a><a href="#">Email</a></div><div class="story-body">{body}</div>
<div class="newsletter-signup"><h4>Get the best of our journalism in your inbox</h4><p>Sign up for our newsletter. You can leave at any time.</p></div></article>
<section class="most-read"><h2>Most read</h2><ol>{_teasers(draw, 5)}</ol></section><section class="related"><h2>More on this story</h2><ul>{_teasers(draw, 4)}</ul></section>
<footer class="global-footer"><ul>{_links(draw, 6, 12)}</ul><p>&copy; 2024 The Daily Example. {LEGAL}</p></footer>""")  # fmt: skip


def _wiki(name: str, body: str, draw: random.Random) -> str:
    return _page(name, "", f"""
<div id="mw-page-base" class="noprint"></div><div id="content" class="mw-body" role="main"><h1 id="firstHeading" class="firstHeading">{name}</h1>
<div id="bodyContent" class="mw-body-content"><div id="siteSub" class="noprint">From the example wiki, which anybody can edit</div>
<div id="jump-to-nav"></div><a class="mw-jump-link" href="#mw-head">Jump to navigation</a>
<div id="mw-content-text" class="mw-content-ltr"><div class="mw-parser-output">{body}</div></div>
<div id="catlinks" class="catlinks">Categories: <ul>{_links(draw, 2, 5)}</ul></div></div></div>
<div id="mw-navigation"><h2>Navigation menu</h2><div id="p-personal"><ul><li>Not logged in</li><li><a href="/talk">Talk</a></li>{_links(draw, 2, 4)}</ul></div>
<div id="mw-panel"><div class="portal"><h3>Tools</h3><ul>{_links(draw, 6, 12)}</ul></div></div></div>
<div id="footer" role="contentinfo"><ul><li>This page was last edited on 3 March 2024, at 12:00.</li><li>{LEGAL}</li></ul></div>""")  # fmt: skip


def _forum(name: str, body: str, draw: random.Random) -> str:
    answer = '<div class="answer"><div class="post-text"><p>{1}</p></div><div class="user-details">answered by <a href="/u">{0}</a></div></div>'
    return _page(name, "", f"""
<div class="topbar"><a href="/">Example Exchange</a><ul>{_links(draw, 4, 7)}</ul></div><div class="js-consent-banner"><p>{COOKIES}</p><button>Accept</button></div>
<div class="container"><div id="left-sidebar"><ol class="nav-links">{_links(draw, 4, 8)}</ol></div><div id="mainbar"><div id="question-header"><h1>{name}</h1></div>
<div class="question"><div class="votecell">12</div><div class="postcell"><div class="s-prose js-post-body">{body}</div>
<div class="post-taglist"><a href="/t">python</a></div></div></div><div id="comments" class="comments">{_remarks(draw, '<div class="comment-body"><span>{1}</span> &ndash; <a href="/u">{0}</a></div>')}</div>
<div id="answers-discussion" class="comments">{_remarks(draw, answer)}</div></div><div id="sidebar"><h4>Hot questions</h4><ul>{_teasers(draw, 6)}</ul></div></div>
<footer id="footer" class="site-footer"><ul>{_links(draw, 5, 10)}</ul><p>{LEGAL}</p></footer>""")  # fmt: skip


def _repository(name: str, body: str, draw: random.Random) -> str:
    files = "".join(
        f'<tr><td><a href="/f">{f}</a></td><td>Update</td><td>2 months ago</td></tr>'
        for f in ("src", "tests", "README.md", "setup.py")
    )
    return _page(name, "", f"""
<header class="Header" role="banner"><nav>{_links(draw, 4, 8, '<a class="Header-link" href="/{0}">{0}</a>')}</nav></header>
<main id="js-repo-pjax-container"><div class="pagehead"><strong>{name}</strong><ul class="pagehead-actions"><li>Watch 12</li><li>Star 340</li><li>Fork 56</li></ul></div>
<nav class="js-repo-nav"><ul><li>Code</li><li>Issues 14</li><li>Pull requests 3</li><li>Actions</li></ul></nav>
<div class="Layout"><div class="Layout-main"><table class="files">{files}</table><div id="readme"><article class="markdown-body entry-content">{body}</article></div></div>
<div class="Layout-sidebar"><h2>About</h2><p>No description, website, or topics provided.</p><h2>Languages</h2><ul><li>Python 98.2%</li><li>Other 1.8%</li></ul></div></div></main>
<footer class="footer"><ul>{_links(draw, 6, 10)}</ul><span>&copy; 2024 Example, Inc.</span></footer>""")  # fmt: skip


def _tables(name: str, body: str, draw: random.Random) -> str:
    return _page(name, "", f"""
<table width="100%" border="0"><tr><td colspan="3" bgcolor="#003366"><font color="white" size="5">{name}</font></td></tr>
<tr><td width="150" valign="top" bgcolor="#eeeeee">{_links(draw, 8, 14, '<a href="{0}.htm">{0}</a><br>')}</td>
<td valign="top">{body}</td><td width="120" valign="top"><b>News</b><br>{_links(draw, 3, 6, '<a href="{0}.htm">{0}</a><br>')}</td></tr>
<tr><td colspan="3" align="center"><small>Best viewed at 1024x768. You are visitor number 120934. {LEGAL}</small></td></tr></table>""")  # fmt: skip


def _shop(name: str, body: str, draw: random.Random) -> str:
    card = '<div class="product-card"><a href="/{0}">{0} kit</a><span class="price">$19.99</span><button>Add to cart</button></div>'
    return _page(name, "", f"""
<div class="announcement-bar">Free shipping on orders over $50</div><div id="cookie-consent" class="cookie-banner"><p>{COOKIES}</p></div>
<header class="header"><a class="logo" href="/">Example Store</a><nav class="nav"><ul>{_links(draw, 6, 10)}</ul></nav><a href="/cart">Cart (0)</a></header>
<ol class="breadcrumb"><li>Home</li><li>Software</li><li>{name}</li></ol><div class="product"><h1>{name}</h1><div class="product-price">$49.00</div><button>Buy now</button>
<div class="product-description">{body}</div></div><div class="related-products"><h3>You may also like</h3>{_links(draw, 4, 8, card)}</div>
<div class="reviews">{_remarks(draw, '<div class="review"><b>{0}</b><p>{1}</p></div>')}</div><footer class="footer"><ul>{_links(draw, 6, 12)}</ul><p>{LEGAL}</p></footer>""")  # fmt: skip


def _single(name: str, body: str, draw: random.Random) -> str:
    return _page(name, "", f"""
<div id="root"><div class="css-1x2 e1"><div class="css-9f3">{_links(draw, 5, 9, '<a class="css-b{0}" href="/{0}">{0}</a>')}</div></div>
<div class="css-k0d"><div class="css-7z1">{body}</div></div><div class="css-qq8"><div class="css-m31">{_links(draw, 8, 16, '<a href="/{0}">{0}</a> ')}</div>
<div class="css-p10">{LEGAL}</div></div><div class="css-c00kie"><div>{COOKIES}</div><button>OK</button></div></div>""")  # fmt: skip


FRAMES: list[Callable[[str, str, random.Random], str]] = [
    _handbook,
    _reference,
    _weblog,
    _newspaper,
    _wiki,
    _forum,
    _repository,
    _tables,
    _shop,
    _single,
]
