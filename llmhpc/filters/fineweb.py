"""Drop lists and pages of short or repeated lines (FineWeb's own rules)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """The thresholds of Penedo et al., arXiv 2406.17557, section 3.6, as datatrove ships them."""

    kind: str = "fineweb"
    min_lines_ending_in_punctuation: float = 0.12
    max_short_lines: float = 0.67
    short_line_characters: int = 30
    max_duplicate_line_characters: float = 0.01  # share of characters in lines seen before
    max_newlines_per_word: float = 0.3

    def __post_init__(self) -> None:
        fraction(self, "min_lines_ending_in_punctuation", "max_short_lines")
        fraction(self, "max_duplicate_line_characters")
        at_least(self, "short_line_characters", 0)
        at_least(self, "max_newlines_per_word", 0)


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """datatrove's filter with these thresholds."""
    from datatrove.pipeline.filters import FineWebQualityFilter
    from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates
    from datatrove.utils.text import split_into_words

    from llmhpc.filters.blocks.explained import Explained

    judge = FineWebQualityFilter(
        line_punct_thr=cfg.min_lines_ending_in_punctuation,
        short_line_thr=cfg.max_short_lines,
        short_line_length=cfg.short_line_characters,
        char_duplicates_ratio=cfg.max_duplicate_line_characters,
        new_line_ratio=cfg.max_newlines_per_word,
    )

    def explain(doc: "Document", reason: str) -> str:
        lines = [line for line in doc.text.split("\n") if line.strip()]
        if reason == "line_punct_ratio":
            ended = sum(line.endswith(judge.stop_chars) for line in lines) / len(lines)
            return below("lines_ending_in_punctuation", ended, cfg.min_lines_ending_in_punctuation)
        if reason == "short_line_ratio":
            short = sum(len(line) <= cfg.short_line_characters for line in lines) / len(lines)
            return above("short_lines", short, cfg.max_short_lines)
        if reason == "char_dup_ratio":
            again = find_duplicates(lines)[1] / len(doc.text.replace("\n", ""))
            return above("duplicate_line_characters", again, cfg.max_duplicate_line_characters)
        if reason == "list_ratio":
            ratio = doc.text.count("\n") / len(split_into_words(doc.text))
            return above("newlines_per_word", ratio, cfg.max_newlines_per_word)
        return reason  # "empty"

    return Explained(judge, explain, removed)
