"""Drop documents that do not look like prose: length, word shapes, symbols, stop words (Gopher)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from collections.abc import Callable

    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """The thresholds of Rae et al., arXiv 2112.11446, appendix A1.1; 0 switches one off."""

    kind: str = "gopher_quality"
    min_words: int = 50
    max_words: int = 100_000
    min_mean_word_characters: float = 3
    max_mean_word_characters: float = 10
    max_symbol_word_ratio: float = 0.1  # hashes, or ellipses, per word
    max_bullet_lines: float = 0.9
    max_ellipsis_lines: float = 0.3
    min_alphabetic_words: float = 0.8  # share of words with a letter
    min_stop_words: int = 2  # different ones of: the be to of and that have with

    def __post_init__(self) -> None:
        for name in ("min_words", "max_words", "min_stop_words", "max_symbol_word_ratio"):
            at_least(self, name, 0)
        at_least(self, "min_mean_word_characters", 0)
        at_least(self, "max_mean_word_characters", 0)
        fraction(self, "max_bullet_lines", "max_ellipsis_lines", "min_alphabetic_words")


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """datatrove's filter with these thresholds."""
    from datatrove.pipeline.filters import GopherQualityFilter

    from llmhpc.filters.blocks.explained import Explained

    judge = GopherQualityFilter(
        min_doc_words=cfg.min_words,
        max_doc_words=cfg.max_words,
        min_avg_word_length=cfg.min_mean_word_characters,
        max_avg_word_length=cfg.max_mean_word_characters,
        max_symbol_word_ratio=cfg.max_symbol_word_ratio,
        max_bullet_lines_ratio=cfg.max_bullet_lines,
        max_ellipsis_lines_ratio=cfg.max_ellipsis_lines,
        max_non_alpha_words_ratio=cfg.min_alphabetic_words,
        min_stop_words=cfg.min_stop_words,
    )
    say = {  # datatrove's reason -> the sentence for a measured value
        "gopher_short_doc": lambda value: below("words", value, cfg.min_words),
        "gopher_long_doc": lambda value: above("words", value, cfg.max_words),
        "gopher_below_avg_threshold": lambda value: below(
            "mean_word_characters", value, cfg.min_mean_word_characters
        ),
        "gopher_above_avg_threshold": lambda value: above(
            "mean_word_characters", value, cfg.max_mean_word_characters
        ),
        "gopher_too_many_hashes": lambda value: above(
            "hashes_per_word", value, cfg.max_symbol_word_ratio
        ),
        "gopher_too_many_ellipsis": lambda value: above(
            "ellipses_per_word", value, cfg.max_symbol_word_ratio
        ),
        "gopher_too_many_bullets": lambda value: above("bullet_lines", value, cfg.max_bullet_lines),
        "gopher_too_many_end_ellipsis": lambda value: above(
            "ellipsis_lines", value, cfg.max_ellipsis_lines
        ),
        "gopher_below_alpha_threshold": lambda value: below(
            "alphabetic_words", value, cfg.min_alphabetic_words
        ),
        "gopher_enough_stop_words": lambda value: below("stop_words", value, cfg.min_stop_words),
    }

    def explain(doc: "Document", reason: str) -> str:
        return say[reason](measure(doc.text, reason))

    return Explained(judge, explain, removed)


def measure(text: str, reason: str) -> float:
    """The value behind one of datatrove's reasons, by datatrove's definitions of word and line."""
    from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
    from datatrove.utils.text import PUNCTUATION_SET, split_into_words

    words = split_into_words(text)
    real = [word for word in words if any(c not in PUNCTUATION_SET for c in word)]
    lines = text.splitlines()
    values = {
        "doc": lambda: len(real),
        "avg": lambda: sum(map(len, real)) / len(real),
        "hashes": lambda: text.count("#") / len(words),
        "end_ellipsis": lambda: _share(lines, lambda line: line.rstrip().endswith(("...", "…"))),
        "ellipsis": lambda: (text.count("...") + text.count("…")) / len(words),
        "bullets": lambda: _share(lines, lambda line: line.lstrip().startswith(("•", "-"))),
        "alpha": lambda: _share(words, lambda word: any(c.isalpha() for c in word)),
        "stop_words": lambda: len(set(STOP_WORDS) & set(words)),
    }
    return next(value() for part, value in values.items() if part in reason)


def _share(items: list[str], holds: "Callable[[str], bool]") -> float:
    return sum(map(holds, items)) / len(items)
