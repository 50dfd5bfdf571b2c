"""Keep sentences, drop pages of code or with too few sentences left (C4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhpc.config import at_least
from llmhpc.filters import Rule, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter


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
    """datatrove's filter with these settings."""
    from datatrove.data import Document
    from datatrove.pipeline.filters import C4QualityFilter
    from datatrove.utils.text import split_into_sentences

    from llmhpc.filters.blocks.explained import Explained

    def judge(min_sentences: int) -> C4QualityFilter:
        return C4QualityFilter(
            filter_no_terminal_punct=cfg.only_terminal_punctuation,
            min_num_sentences=min_sentences or -1,  # -1: not counted
            min_words_per_line=cfg.min_words_per_line,
            max_word_length=cfg.max_word_characters,
            remove_citations=cfg.remove_citations,
            filter_lorem_ipsum=cfg.drop_lorem_ipsum,
            filter_curly_bracket=cfg.drop_curly_bracket,
            filter_javascript=cfg.remove_javascript_lines,
            filter_policy=cfg.remove_policy_lines,
        )

    only_lines = judge(min_sentences=0)

    def explain(doc: "Document", reason: str) -> str:
        if reason == "curly_bracket":
            return f"curly brackets {doc.text.count('{')} > 0"
        if reason == "lorem_ipsum":
            return f"lorem ipsum {doc.text.lower().count('lorem ipsum')} > 0"
        rest = Document(text=doc.text, id=doc.id)
        only_lines.filter(rest)  # leaves the lines that C4 keeps
        sentences = sum(len(split_into_sentences(line)) for line in rest.text.splitlines())
        return below("sentences", sentences, cfg.min_sentences)

    return Explained(judge(cfg.min_sentences), explain, removed)
