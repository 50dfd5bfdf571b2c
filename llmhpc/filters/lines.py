"""Take lines out of documents that are no text: javascript, cookies, counters, short boilerplate."""

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

COUNTER = re.compile(
    r"\W*[\d.,]+\s?[kKmM]?\s+"
    r"(?:likes?|shares?|comments?|views?|followers?|replies|reply|votes?|retweets?|downloads?)\W*",
    re.IGNORECASE,
)
ADDRESS = re.compile(r"\b(?:https?://|www\.)\S+[^\s.,;:!?)\]}\"']", re.IGNORECASE)
EMPTY_LINES = re.compile(r"\n{3,}")
JAVASCRIPT = ("javascript",)
POLICY = (  # C4's, by its code: Raffel et al., JMLR 21 (2020) 140, tensorflow_datasets c4_utils.py
    "terms of use",
    "privacy policy",
    "cookie policy",
    "uses cookies",
    "use of cookies",
    "use cookies",
)
BOILERPLATE = (  # RefinedWeb names sign-in, read more and items in cart as examples; the rest is ours
    "sign in",
    "sign-in",
    "sign up",
    "log in",
    "read more",
    "items in cart",
    "add to cart",
    "skip to content",
    "skip to main content",
    "all rights reserved",
    "share this",
    "subscribe to our newsletter",
)


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """RefinedWeb's line-wise corrections (Penedo et al., arXiv 2306.01116, appendix G.2) and C4's lines.

    A line goes if it speaks of javascript or cookies (C4), is a number or a counter ("3 likes"), consists
    of capitals, or is short and holds a phrase of boilerplate. RefinedWeb drops a document that loses more
    than 0.05 of its words in this way: max_removed_words=0.05; the default drops only what has no line left.
    """

    kind: str = "lines"
    javascript: bool = True
    policy: bool = True
    counters: bool = True  # lines without a letter but with a digit, too
    max_capitals: float = 0.6  # of the letters; "mainly" in the paper; 1 switches it off
    short_line_words: int = (
        10  # of a line that a phrase of boilerplate takes out; 0 switches it off
    )
    boilerplate: list[str] = field(default_factory=lambda: list(BOILERPLATE))  # lower case
    min_words_per_line: int = 1  # RefinedWeb: 2, which takes one-word headings as well
    max_removed_words: float = 1.0
    addresses: bool = False  # those in the text go, and no more than one empty line is left (RefinedWeb, section 3.1)

    def __post_init__(self) -> None:
        fraction(self, "max_capitals", "max_removed_words")
        at_least(self, "short_line_words", 0)
        at_least(self, "min_words_per_line", 1)

    def why(self, line: str) -> str:
        """The kind of non-text that a line is, or ""."""
        low = line.lower()
        words = len(line.split())
        short = words <= self.short_line_words
        if self.javascript and any(phrase in low for phrase in JAVASCRIPT):
            return "javascript"
        if self.policy and any(phrase in low for phrase in POLICY):
            return "policy"
        if short and any(phrase in low for phrase in self.boilerplate):
            return "boilerplate"
        if self.counters and line[-1:].isascii() and _is_counter(line):
            return "counter"
        if self.max_capitals < 1 and line != low and _capitals(line) > self.max_capitals:
            return "capitals"
        return "few words" if words < self.min_words_per_line else ""


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that keeps blank lines and the order of the rest."""
    from llmhpc.filters.blocks.edits import Editor
    from llmhpc.filters.blocks.explained import Explained

    class Lines(Editor):
        """Removes lines; a document that lost too many words goes as a whole."""

        def edit(self, text: str, counts: Counter[str]) -> tuple[str, str]:
            if cfg.addresses:
                text, found = ADDRESS.subn("", text)
                text = EMPTY_LINES.sub("\n\n", text)
                counts["edit-addresses"] += found
            kept, lost = clean(cfg, text, counts)
            if lost and not kept.strip():
                return "", "nothing_left"
            share = lost / len(text.split()) if lost else 0.0
            return kept, "too_many_removed_words" if share > cfg.max_removed_words else ""

    def explain(doc: "Document", reason: str) -> str:
        _, lost = clean(cfg, doc.text, Counter())
        share = lost / len(doc.text.split())
        if reason == "nothing_left":
            return f"all {lost} words are in lines that are no text"
        return above("removed_words", share, cfg.max_removed_words)

    return Explained(Lines(), explain, removed)


def clean(cfg: Config, text: str, counts: Counter[str]) -> tuple[str, int]:
    """(the text without such lines, the words in them)."""
    kept, lost = [], 0
    for line in text.split("\n"):
        if line.strip() and (kind := cfg.why(line)):
            counts[f"line-{kind}"] += 1
            lost += len(line.split())
        else:
            kept.append(line)
    return ("\n".join(kept), lost) if lost else (text, 0)


def _is_counter(line: str) -> bool:
    return bool(COUNTER.fullmatch(line)) or (
        any(c.isdigit() for c in line) and not any(c.isalpha() for c in line)
    )


def _capitals(line: str) -> float:
    letters = [c for c in line if c.isalpha()]
    return sum(c.isupper() for c in letters) / len(letters) if letters else 0.0
