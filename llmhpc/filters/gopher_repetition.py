"""Drop documents that repeat themselves: lines, paragraphs, n-grams (Gopher)."""

import re
from dataclasses import dataclass, fields
from functools import partial
from typing import TYPE_CHECKING

from llmhpc.config import fraction
from llmhpc.filters import Rule, above

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    """The decisions of ``reference``, n-grams compared by numbers."""
    from llmhpc.filters.blocks.explained import Checked

    return Checked(partial(faults, cfg), removed)


def reference(cfg: Config) -> "BaseFilter":
    """datatrove's filter with these thresholds."""
    from datatrove.pipeline.filters import GopherRepetitionFilter

    return GopherRepetitionFilter(
        dup_line_frac=cfg.duplicate_lines,
        dup_para_frac=cfg.duplicate_paragraphs,
        dup_line_char_frac=cfg.duplicate_line_characters,
        dup_para_char_frac=cfg.duplicate_paragraph_characters,
        top_n_grams=cfg.tops(),
        dup_n_grams=cfg.duplicates(),
    )


def faults(cfg: Config, text: str) -> "Iterator[tuple[str, str]]":
    """datatrove's reasons to drop a text, each with its value."""
    from datatrove.utils.text import split_into_words

    from llmhpc.filters.blocks.grams import Grams

    if not text:
        yield "empty", "empty"
        return
    paragraphs, lines = PARAGRAPHS.split(text.strip()), LINES.split(text)
    yield from _seen_before(
        "dup_para", paragraphs, text, cfg.duplicate_paragraphs, cfg.duplicate_paragraph_characters
    )
    yield from _seen_before(
        "dup_line", lines, text, cfg.duplicate_lines, cfg.duplicate_line_characters
    )
    grams, characters = Grams(split_into_words(text)), len(text)
    for n, most in cfg.tops():
        if (share := grams.top(n, most * characters) / characters) > most:
            yield f"top_{n}_gram", above(f"top_{n}_gram", share, most)
    duplicates = cfg.duplicates()
    # a longer n-gram seen before is made of shorter ones seen before
    if not duplicates or grams.repeated(duplicates[0][0]) / characters <= min(
        most for _, most in duplicates
    ):
        return
    for n, most in duplicates:
        if (share := grams.duplicate(n) / characters) > most:
            name = f"duplicated_{n}_n_grams"
            yield name, above(name, share, most)


def _seen_before(
    name: str, parts: list[str], text: str, most: float, most_characters: float
) -> "Iterator[tuple[str, str]]":
    unique = set(parts)
    share = (len(parts) - len(unique)) / len(parts)
    if 0 < most < share:
        yield f"{name}_frac", above(f"{name}_frac", share, most)
    share = (sum(map(len, parts)) - sum(map(len, unique))) / len(text) if share else 0.0
    if 0 < most_characters < share:
        yield f"{name}_char_frac", above(f"{name}_char_frac", share, most_characters)
