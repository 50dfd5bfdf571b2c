"""Keep sentences, drop pages of code or with too few sentences left (C4)."""

import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhpc.config import at_least
from llmhpc.filters import Rule, below
from llmhpc.filters.lines import POLICY

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

CITATION = re.compile(r"\[\d*]|\[edit]|\[citation needed]")
TERMINAL = (".", "?", "!", '"', "'")


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """The heuristics of Raffel et al., JMLR 21 (2020) 140, section 2.2, without the list of bad words.

    Lines are removed from a document (cookie and policy notes, lines about javascript, long words and,
    where asked for, lines without terminal punctuation); a document is dropped for "lorem ipsum", a curly
    bracket, or too few sentences in what is left.
    """

    kind: str = "c4"
    only_terminal_punctuation: bool = True  # remove lines that do not end like a sentence
    min_sentences: int = 5  # in the lines that are left; 0 switches it off
    min_words_per_line: int = 3
    max_word_characters: int = 1000
    remove_citations: bool = True  # [1], [edit], [citation needed]
    drop_lorem_ipsum: bool = True
    drop_curly_bracket: bool = True
    remove_javascript_lines: bool = True
    remove_policy_lines: bool = True

    def __post_init__(self) -> None:
        for name in ("min_sentences", "min_words_per_line"):
            at_least(self, name, 0)
        at_least(self, "max_word_characters", 1)


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """The decisions, texts and counts of ``reference``, sentences counted only until there are enough."""
    from llmhpc.filters.blocks.edits import Editor
    from llmhpc.filters.blocks.explained import Explained

    class Lines(Editor):
        """Removes lines, and drops what has too few sentences left."""

        def edit(self, text: str, counts: Counter[str]) -> tuple[str, str]:
            lines, sentences, reason = clean(cfg, text, counts)
            if not reason and sentences < cfg.min_sentences:
                reason = "too_few_sentences"
            return "\n".join(lines).strip(), reason

    def explain(doc: "Document", reason: str) -> str:
        if reason == "curly_bracket":
            return f"curly brackets {doc.text.count('{')} > 0"
        if reason == "lorem_ipsum":
            return f"lorem ipsum {doc.text.lower().count('lorem ipsum')} > 0"
        return below("sentences", clean(cfg, doc.text, Counter())[1], cfg.min_sentences)

    return Explained(Lines(), explain, removed)


def reference(cfg: Config) -> "BaseFilter":
    """datatrove's filter with these settings."""
    from datatrove.pipeline.filters import C4QualityFilter

    return C4QualityFilter(
        filter_no_terminal_punct=cfg.only_terminal_punctuation,
        min_num_sentences=cfg.min_sentences or -1,  # -1: not counted
        min_words_per_line=cfg.min_words_per_line,
        max_word_length=cfg.max_word_characters,
        remove_citations=cfg.remove_citations,
        filter_lorem_ipsum=cfg.drop_lorem_ipsum,
        filter_curly_bracket=cfg.drop_curly_bracket,
        filter_javascript=cfg.remove_javascript_lines,
        filter_policy=cfg.remove_policy_lines,
    )


def clean(cfg: Config, text: str, counts: Counter[str]) -> tuple[list[str], int, str]:
    """(lines kept, their sentences up to the least number, why the whole document goes or "")."""
    from datatrove.utils.text import split_into_sentences

    kept: list[str] = []
    sentences = 0
    for number, whole in enumerate(text.splitlines(), 1):
        line, why = judged(cfg, whole.strip())
        if why in ("lorem_ipsum", "curly_bracket"):
            counts["line-total"] += number
            return kept, sentences, why
        if why:
            counts[f"line-filter-{why}"] += 1
            continue
        if sentences < cfg.min_sentences:
            sentences += len(split_into_sentences(line))
        kept.append(line)
    counts["line-total"] += len(text.splitlines())
    counts["line-kept"] += len(kept)
    return kept, sentences, ""


def judged(cfg: Config, line: str) -> tuple[str, str]:
    """(the line without citations, why it or its document goes, "" if it stays), checks in C4's order."""
    words = line.split()
    if len(line) > cfg.max_word_characters < max(map(len, words)):
        return line, "too_long_word"
    if cfg.remove_citations and "[" in line:
        line = CITATION.sub("", line)
    if cfg.only_terminal_punctuation and (not line.endswith(TERMINAL) or line.endswith("...")):
        return line, "no_terminal_punc"
    if len(words) < cfg.min_words_per_line:
        return line, "too_few_words"
    low = line.lower()
    if cfg.drop_lorem_ipsum and "lorem ipsum" in low:
        return line, "lorem_ipsum"
    if cfg.remove_javascript_lines and "javascript" in low:
        return line, "javascript"
    if cfg.drop_curly_bracket and "{" in line:
        return line, "curly_bracket"
    is_policy = cfg.remove_policy_lines and any(phrase in low for phrase in POLICY)
    return line, "policy" if is_policy else ""
