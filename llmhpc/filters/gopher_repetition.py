"""Drop documents that repeat themselves: lines, paragraphs, n-grams (Gopher)."""

import re
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from llmhpc.config import fraction
from llmhpc.filters import Rule, above

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter

PARAGRAPHS, LINES = re.compile(r"\n{2,}"), re.compile(r"\n+")


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """The largest shares of Rae et al., arXiv 2112.11446, table A1; 1 switches one off.

    Lines and paragraphs: those seen before, as a share of all of them and of all characters. Top: the
    characters of the most frequent n-gram of words; dup: of n-grams of words seen before.
    """

    kind: str = "gopher_repetition"
    duplicate_lines: float = 0.30
    duplicate_paragraphs: float = 0.30
    duplicate_line_characters: float = 0.20
    duplicate_paragraph_characters: float = 0.20
    top_2_gram: float = 0.20
    top_3_gram: float = 0.18
    top_4_gram: float = 0.16
    dup_5_grams: float = 0.15
    dup_6_grams: float = 0.14
    dup_7_grams: float = 0.13
    dup_8_grams: float = 0.12
    dup_9_grams: float = 0.11
    dup_10_grams: float = 0.10

    def __post_init__(self) -> None:
        common = {f.name for f in fields(Rule)}
        fraction(self, *(f.name for f in fields(self) if f.name not in common))

    def tops(self) -> tuple[tuple[int, float], ...]:
        """(n, largest share) for the most frequent n-gram; without those that are switched off."""
        return tuple((n, most) for n in (2, 3, 4) if (most := getattr(self, f"top_{n}_gram")) < 1)

    def duplicates(self) -> tuple[tuple[int, float], ...]:
        """(n, largest share) for repeated n-grams; without those that are switched off."""
        sizes = range(5, 11)
        return tuple((n, most) for n in sizes if (most := getattr(self, f"dup_{n}_grams")) < 1)


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """datatrove's filter with these thresholds, its n-grams counted by ``blocks.ngrams``."""
    from datatrove.pipeline.filters import GopherRepetitionFilter
    from datatrove.utils.text import split_into_words

    from llmhpc.filters.blocks.explained import Explained
    from llmhpc.filters.blocks.ngrams import Ngrams

    class Repetition(GopherRepetitionFilter):
        """The same decisions and reasons."""

        def filter(self, doc: "Document") -> bool | tuple[bool, str]:
            by_lines = super().filter(doc)
            if by_lines is not True:
                return by_lines
            ngrams, length = Ngrams(split_into_words(doc.text)), len(doc.text)
            for n, most in cfg.tops():
                if ngrams.most_frequent(n) / length > most:
                    return False, f"top_{n}_gram"
            for n, most in cfg.duplicates():
                if ngrams.repeated(n, most * length) / length > most:
                    return False, f"duplicated_{n}_n_grams"
            return True

    judge = Repetition(
        dup_line_frac=cfg.duplicate_lines,
        dup_para_frac=cfg.duplicate_paragraphs,
        dup_line_char_frac=cfg.duplicate_line_characters,
        dup_para_char_frac=cfg.duplicate_paragraph_characters,
        top_n_grams=(),
        dup_n_grams=(),
    )
    limits = {
        "dup_line_frac": cfg.duplicate_lines,
        "dup_para_frac": cfg.duplicate_paragraphs,
        "dup_line_char_frac": cfg.duplicate_line_characters,
        "dup_para_char_frac": cfg.duplicate_paragraph_characters,
        **{f"top_{n}_gram": most for n, most in cfg.tops()},
        **{f"duplicated_{n}_n_grams": most for n, most in cfg.duplicates()},
    }

    def explain(doc: "Document", reason: str) -> str:
        if reason not in limits:
            return reason  # "empty"
        return above(reason, share(doc.text, reason), limits[reason])

    return Explained(judge, explain, removed)


def share(text: str, reason: str) -> float:
    """The measured share behind one of datatrove's reasons."""
    from datatrove.pipeline.filters.gopher_repetition_filter import find_duplicates
    from datatrove.utils.text import split_into_words

    from llmhpc.filters.blocks.ngrams import Ngrams

    if reason.startswith(("dup_line", "dup_para")):
        is_line = reason.startswith("dup_line")
        parts = LINES.split(text) if is_line else PARAGRAPHS.split(text.strip())
        count, characters = find_duplicates(parts)
        return characters / len(text) if "char" in reason else count / len(parts)
    ngrams, n = Ngrams(split_into_words(text)), int(re.findall(r"\d+", reason)[0])
    return (ngrams.most_frequent(n) if reason.startswith("top") else ngrams.repeated(n)) / len(text)
