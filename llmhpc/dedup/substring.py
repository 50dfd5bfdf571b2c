"""Exact substrings that are there twice, by suffix arrays (Lee et al., arXiv 2107.06499, section 4.1), of any amount of text.

Texts are dealt to buckets by content: each window of ``length`` units goes where the least hash among its
``length / 2``-grams sends it (minimum substring partitioning; Li et al., PVLDB 2013). Windows of the same
content meet in one bucket, so nothing is lost between buckets; neighbours mostly share their least hash and stay
together. Within a bucket a suffix array groups the windows exactly.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from llmhpc.config import Phase, at_least
from llmhpc.dedup import Method
from llmhpc.errors import ConfigError
from llmhpc.task import Task

MIN_LENGTH = 4  # shorter windows have hardly a part of their own to be dealt by


@dataclass(kw_only=True, slots=True)
class Config(Method):
    """Settings of exact substring deduplication."""

    kind: str = "substring"
    tokenizer: str = ""  # path of a tokenizer.json: units are its tokens; empty: bytes of UTF-8
    length: int = 100  # units that a repeated span has at least
    mark: bool = False  # leave the text as it is and say in metadata.repeated where the spans are
    min_characters: int = 200  # a document with less left goes
    buckets: int = 1  # what text is dealt to, and the array tasks that make suffix arrays

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        at_least(self, "length", MIN_LENGTH)
        at_least(self, "min_characters", 1)
        at_least(self, "buckets", 1)

    def phases(self, ranks: int) -> list[Phase]:
        """Pieces of text, what is there twice in each bucket, documents."""
        return [Phase("pieces", ranks), Phase("repeats", self.buckets), Phase("filter", ranks)]

    def before_launch(self) -> None:
        """Raise ConfigError if there is no such tokenizer."""
        if self.tokenizer and not Path(self.tokenizer).is_file():
            raise ConfigError(f"tokenizer={self.tokenizer}: no such file; a tokenizer.json")


def run(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of the phases pieces, repeats and filter."""
    from llmhpc.dedup.blocks import pieces, repeats, suffixes
    from llmhpc.dedup.blocks.units import units_of

    units = units_of(cfg.tokenizer)
    if task.phase == "pieces":
        return pieces.write_pieces(cfg, units, documents, out / "work", task)
    if task.phase == "repeats":
        return suffixes.of_bucket(cfg, units.width, task.home / "work", out / "work", task)
    cut = repeats.Cut(mark=cfg.mark, min_characters=cfg.min_characters, length=cfg.length)
    work = task.home / "work"
    return repeats.cut_documents(cfg, cut, units.characters, documents, work, out, task)
