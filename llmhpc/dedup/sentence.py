"""Spans of successive sentences that are also elsewhere are cut out, as C4 does with three (Raffel et al.,
arXiv 1910.10683, section 2.2). Sentences end at a full stop, question or exclamation mark before a blank, at their
full-width forms and at a line's end; they are compared in lower case and with single blanks, by 128-bit hashes.
"""

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from llmhpc.config import Phase, at_least
from llmhpc.dedup import Method
from llmhpc.task import Task

END = re.compile(r"(?:[.!?…]+[\"'”’)\]]*(?=\s)|[。！？]+|\n)\s*")


@dataclass(kw_only=True, slots=True)
class Config(Method):
    """Settings of sentence deduplication."""

    kind: str = "sentence"
    sentences: int = 3  # of a span
    mark: bool = False  # leave the text as it is and say in metadata.repeated where the spans are
    min_characters: int = 200  # a document with less left goes
    buckets: int = 1  # what spans are dealt to, and the array tasks that compare them

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        at_least(self, "sentences", 1)
        at_least(self, "min_characters", 1)
        at_least(self, "buckets", 1)

    def phases(self, ranks: int) -> list[Phase]:
        """Hashes of spans, those that are there twice, documents."""
        return [Phase("spans", ranks), Phase("repeats", self.buckets), Phase("filter", ranks)]


def bounds(text: str) -> list[int]:
    """Where sentences begin, and the end of the text: n + 1 for n sentences."""
    begins = [0, *(found.end() for found in END.finditer(text))]
    return begins if begins[-1] == len(text) else [*begins, len(text)]


def run(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of the phases spans, repeats and filter."""
    from llmhpc.dedup.blocks import repeats

    if task.phase == "spans":
        return _write_spans(cfg, documents, out / "work", task)
    if task.phase == "repeats":
        return repeats.of_bucket(cfg, task.home / "work", out / "work", cfg.sentences, task)
    cut = repeats.Cut(mark=cfg.mark, min_characters=cfg.min_characters, length=cfg.sentences)

    def characters(text: str) -> repeats.ToCharacters:
        begins = bounds(text)
        return lambda start, end: (begins[start], begins[end])

    return repeats.cut_documents(cfg, cut, characters, documents, task.home / "work", out, task)


def _write_spans(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    import xxhash

    from llmhpc.dedup.blocks import shards
    from llmhpc.dedup.blocks.dealt import Dealer
    from llmhpc.dedup.blocks.repeats import WINDOW

    register = shards.Register(cfg, out / "register")
    with Dealer(cfg, out, task.rank, cfg.buckets, columns=WINDOW, key=0) as dealer:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            order, text, salt = register.add(doc), doc.document["text"], shards.salt(cfg, doc)
            begins = bounds(text)
            sentences = [" ".join(text[a:b].lower().split()).encode() for a, b in pairwise(begins)]
            for at in range(len(sentences) - cfg.sentences + 1):
                span = b"\n".join(sentences[at : at + cfg.sentences])
                key = shards.halves(xxhash.xxh3_128_intdigest(salt + span))
                dealer.add((*key, *order, doc.number, at))
    register.close()
    return {"spans": dealer.rows}
