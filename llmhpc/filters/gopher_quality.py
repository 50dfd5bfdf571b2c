"""Drop documents that do not look like prose: length, word shapes, symbols, stop words (Gopher)."""

import math
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import compress
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from collections.abc import Iterator

    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

REMEMBERED = 1 << 17  # words
STOP_WORDS = {"the", "be", "to", "of", "and", "that", "have", "with"}


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
    """The decisions of ``reference``, each word looked at once."""
    from llmhpc.filters.blocks.explained import Checked

    return Checked(partial(faults, cfg), removed)


def reference(cfg: Config) -> "BaseFilter":
    """datatrove's filter with these thresholds."""
    from datatrove.pipeline.filters import GopherQualityFilter

    return GopherQualityFilter(
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


def faults(cfg: Config, text: str) -> "Iterator[tuple[str, str]]":
    """datatrove's reasons to drop a text, each with its value."""
    from datatrove.utils.text import split_into_words

    words = split_into_words(text)
    real = list(compress(words, map(is_real, words)))
    if len(real) < cfg.min_words:
        yield "gopher_short_doc", below("words", len(real), cfg.min_words)
    if 0 < cfg.max_words < len(real):
        yield "gopher_long_doc", above("words", len(real), cfg.max_words)
    mean = sum(map(len, real)) / len(real) if real else math.nan
    if mean < cfg.min_mean_word_characters:
        sentence = below("mean_word_characters", mean, cfg.min_mean_word_characters)
        yield "gopher_below_avg_threshold", sentence
    if 0 < cfg.max_mean_word_characters < mean:
        sentence = above("mean_word_characters", mean, cfg.max_mean_word_characters)
        yield "gopher_above_avg_threshold", sentence
    for reason, name, value, most in _symbols(cfg, text, len(words) or 1):
        if 0 < most < value:
            yield f"gopher_too_many_{reason}", above(name, value, most)
    share = sum(map(has_letter, words)) / (len(words) or 1)
    if share < cfg.min_alphabetic_words:
        sentence = below("alphabetic_words", share, cfg.min_alphabetic_words)
        yield "gopher_below_alpha_threshold", sentence
    if (stops := len(STOP_WORDS.intersection(words))) < cfg.min_stop_words:
        yield "gopher_enough_stop_words", below("stop_words", stops, cfg.min_stop_words)


def _symbols(cfg: Config, text: str, words: int) -> "Iterator[tuple[str, str, float, float]]":
    yield "hashes", "hashes_per_word", text.count("#") / words, cfg.max_symbol_word_ratio
    ellipses = text.count("...") + text.count("…")
    yield "ellipsis", "ellipses_per_word", ellipses / words, cfg.max_symbol_word_ratio
    lines = text.splitlines()
    bullets = sum(line.lstrip().startswith(("•", "-")) for line in lines)
    yield "bullets", "bullet_lines", bullets / (len(lines) or 1), cfg.max_bullet_lines
    ends = sum(line.rstrip().endswith(("...", "…")) for line in lines) if ellipses else 0
    yield "end_ellipsis", "ellipsis_lines", ends / (len(lines) or 1), cfg.max_ellipsis_lines


@lru_cache(REMEMBERED)
def is_real(word: str) -> bool:
    """Whether a word has a character that is no punctuation mark."""
    from datatrove.utils.text import PUNCTUATION_SET

    return not PUNCTUATION_SET.issuperset(word)


@lru_cache(REMEMBERED)
def has_letter(word: str) -> bool:
    """Whether a word has a letter."""
    return any(map(str.isalpha, word))
