"""Drop lists and pages of short or repeated lines (FineWeb's own rules)."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The decisions of ``reference``, words split only where their number counts."""
    from llmhpc.filters.blocks.explained import Checked

    return Checked(partial(faults, cfg), removed)


def reference(cfg: Config) -> "BaseFilter":
    """datatrove's filter with these thresholds."""
    from datatrove.pipeline.filters import FineWebQualityFilter

    return FineWebQualityFilter(
        line_punct_thr=cfg.min_lines_ending_in_punctuation,
        short_line_thr=cfg.max_short_lines,
        short_line_length=cfg.short_line_characters,
        char_duplicates_ratio=cfg.max_duplicate_line_characters,
        new_line_ratio=cfg.max_newlines_per_word,
    )


def faults(cfg: Config, text: str) -> "Iterator[tuple[str, str]]":
    """datatrove's reasons to drop a text, each with its value."""
    from datatrove.utils.text import TERMINAL_PUNCTUATION, split_into_words

    lines = [line for line in text.split("\n") if line.strip()]
    if not lines:
        yield "empty", "empty"
        return
    ended = sum(line[-1] in TERMINAL_PUNCTUATION for line in lines) / len(lines)
    if ended < (least := cfg.min_lines_ending_in_punctuation):
        yield "line_punct_ratio", below("lines_ending_in_punctuation", ended, least)
    short = sum(len(line) <= cfg.short_line_characters for line in lines) / len(lines)
    if short > cfg.max_short_lines:
        yield "short_line_ratio", above("short_lines", short, cfg.max_short_lines)
    newlines = text.count("\n")
    again = sum(map(len, lines)) - sum(map(len, set(lines)))
    if (share := again / (len(text) - newlines)) > (most := cfg.max_duplicate_line_characters):
        yield "char_dup_ratio", above("duplicate_line_characters", share, most)
    # what stands between blanks is a word or more
    if newlines / len(text.split()) > cfg.max_newlines_per_word:
        ratio = newlines / (len(split_into_words(text)) or 1)
        if ratio > cfg.max_newlines_per_word:
            yield "list_ratio", above("newlines_per_word", ratio, cfg.max_newlines_per_word)
