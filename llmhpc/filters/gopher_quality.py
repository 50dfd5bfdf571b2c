"""Drop documents that do not look like prose: length, word shapes, symbols, stop words (Gopher)."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llmhpc.config import at_least, fraction
from llmhpc.filters import Rule, above, below

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

KNOWN_WORDS = 1 << 19  # whose shapes are remembered, about 100 MB; then all are forgotten
Measured = tuple[
    str, str, float, float, bool
]  # reason, name, value, limit, whether that is the least


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
    """The decisions and reasons of datatrove's GopherQualityFilter with these thresholds."""
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.filters.gopher_quality_filter import STOP_WORDS
    from datatrove.utils.text import split_into_words

    from llmhpc.filters.blocks.explained import Explained

    shapes, stop_words = Shapes(), set(STOP_WORDS)

    class Prose(BaseFilter):
        """Measures until a value is beyond its limit."""

        because = ""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            words = split_into_words(doc.text)
            for reason, name, value, limit, least in _measured(
                cfg, doc.text, words, shapes, stop_words
            ):
                if limit and (value < limit if least else value > limit):
                    self.because = (below if least else above)(name, value, limit)
                    return False, reason
            return True

    judge = Prose()
    return Explained(judge, lambda doc, reason: judge.because, removed)


class Shapes(dict[str, tuple[int, bool]]):
    """Word -> (its characters, 0 if all of them are punctuation; whether one is a letter)."""

    def __missing__(self, word: str) -> tuple[int, bool]:
        from datatrove.utils.text import PUNCTUATION_SET

        if len(self) >= KNOWN_WORDS:
            self.clear()
        length = 0 if PUNCTUATION_SET.issuperset(word) else len(word)
        self[word] = length, any(c.isalpha() for c in word)
        return self[word]


def _measured(
    cfg: Config, text: str, words: list[str], shapes: Shapes, stop_words: set[str]
) -> Iterator[Measured]:
    lengths, alphabetic = zip(*map(shapes.__getitem__, words), strict=True) if words else ((), ())
    real = sum(map(bool, lengths))
    yield "gopher_short_doc", "words", real, cfg.min_words, True
    yield "gopher_long_doc", "words", real, cfg.max_words, False
    mean, name = sum(lengths) / max(1, real), "mean_word_characters"
    yield "gopher_below_avg_threshold", name, mean, cfg.min_mean_word_characters, True
    yield "gopher_above_avg_threshold", name, mean, cfg.max_mean_word_characters, False
    count, most = max(1, len(words)), cfg.max_symbol_word_ratio
    yield "gopher_too_many_hashes", "hashes_per_word", text.count("#") / count, most, False
    ellipses = (text.count("...") + text.count("…")) / count
    yield "gopher_too_many_ellipsis", "ellipses_per_word", ellipses, most, False
    lines = text.splitlines()
    bullets = _share(lines, lambda line: line.lstrip().startswith(("•", "-")))
    yield "gopher_too_many_bullets", "bullet_lines", bullets, cfg.max_bullet_lines, False
    ended = _share(lines, lambda line: line.rstrip().endswith(("...", "…")))
    yield "gopher_too_many_end_ellipsis", "ellipsis_lines", ended, cfg.max_ellipsis_lines, False
    letters = sum(alphabetic) / count
    name = "alphabetic_words"
    yield "gopher_below_alpha_threshold", name, letters, cfg.min_alphabetic_words, True
    stops = len(stop_words.intersection(words))
    yield "gopher_enough_stop_words", "stop_words", stops, cfg.min_stop_words, True


def _share(lines: list[str], holds: Callable[[str], bool]) -> float:
    return sum(map(holds, lines)) / max(1, len(lines))
