"""New texts on given subjects, as in Cosmopedia (Ben Allal et al. 2024, huggingface.co/blog/cosmopedia).

Each combination of a topic, an audience and a style is asked for a fixed number of times. Seed texts, if a step gives
some, take turns: one model asked one thing repeats itself, and other material is what it varies with.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from itertools import product
from pathlib import Path
from typing import Any

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.generation import Request
from llmhpc.generation.recipes import DOCUMENTS, Part, Recipe, check_template

AXES = ("topic", "audience", "style")


@dataclass(kw_only=True, slots=True)
class Config(Recipe):
    """Topics x audiences x styles; the names are in the counts and the metadata, the texts in the prompt."""

    kind: str = "cosmopedia"
    topics: dict[str, str] = field(default_factory=dict)  # name -> how a prompt speaks of it
    audiences: dict[str, str] = field(default_factory=dict)
    styles: dict[str, str] = field(default_factory=dict)
    template: str = "{style}\n\nSubject: {topic}\nAudience: {audience}\n{seed}"
    seed_template: str = ""  # with {text}: stands for {seed} where needs.documents gives seed texts
    each: int = 1  # requests of a combination
    # topic/audience/style, each with * and ?, -> requests of these instead; the last that fits counts
    counts: dict[str, int] = field(default_factory=dict)
    seed_texts: int = (
        10_000  # different ones at most, picked by a hash of their ids; held in memory
    )
    seed_characters: int = 1000  # from the beginning of each

    def __post_init__(self) -> None:
        for name, least in (("each", 0), ("seed_texts", 1), ("seed_characters", 1)):
            at_least(self, name, least)
        for axis in AXES:
            if not (names := getattr(self, f"{axis}s")):
                raise ConfigError(f"{axis}s is empty: a name and a text for each")
            if bad := [name for name in names if "/" in name]:
                raise ConfigError(f"{axis}s.{bad[0]}: a name without /")
        check_template("template", self.template, set(AXES), {"seed"})
        if self.seed_template:
            check_template("seed_template", self.seed_template, {"text"}, set())
            check_template("template", self.template, {*AXES, "seed"}, set())
        for pattern, count in self.counts.items():
            if count < 0:
                raise ConfigError(f"counts.{pattern}={count}: 0 or more")
            if not any(fnmatchcase("/".join(cell), pattern) for cell in self._product()):
                raise ConfigError(f"counts.{pattern}: fits no topic/audience/style")
        if not self.cells():
            raise ConfigError("each and counts: no combination is asked for")

    def _product(self) -> Iterator[tuple[str, ...]]:
        return product(self.topics, self.audiences, self.styles)

    def cells(self) -> dict[tuple[str, ...], int]:
        """(topic, audience, style) -> how often it is asked for, where that is not 0."""
        cells = {}
        for cell in self._product():
            fits = [n for pattern, n in self.counts.items() if fnmatchcase("/".join(cell), pattern)]
            cells[cell] = [self.each, *fits][-1]
        return {cell: count for cell, count in cells.items() if count}

    def check_documents(self, has_step: bool) -> None:
        """Raise ConfigError if seed texts have no place to be."""
        if has_step and not self.seed_template:
            raise ConfigError(
                "seed_template is empty: needs.documents gives seed texts; where {text} stands"
            )

    def requests(self, documents: int, text_bytes: int) -> int:
        """All cells."""
        return sum(self.cells().values())

    def prompt_characters(self) -> int:
        """The longest of every part."""
        axes = sum(max(map(len, getattr(self, f"{axis}s").values())) for axis in AXES)
        seed = len(self.seed_template) + self.seed_characters if self.seed_template else 0
        return len(self.template) + axes + seed


def parts(cfg: Config, documents: Path | None) -> list[Part]:
    """One part, which all ranks share."""
    seeds = _seed_texts(cfg, documents) if documents else []

    def requests() -> Iterator[Request]:
        number = 0
        for cell, count in cfg.cells().items():
            for copy in range(count):
                seed = seeds[number % len(seeds)] if seeds else None
                yield _request(cfg, cell, copy, seed)
                number += 1

    return [requests]


def _request(cfg: Config, cell: tuple[str, ...], copy: int, seed: dict[str, Any] | None) -> Request:
    texts = {axis: getattr(cfg, f"{axis}s")[name] for axis, name in zip(AXES, cell, strict=True)}
    given = cfg.seed_template.format(text=seed["text"]) if seed else ""
    where = {"seed_id": seed["id"], "seed_url": seed["url"]} if seed else {}
    return Request(
        prompt=cfg.template.format(**texts, seed=given).strip(),
        place="/".join((*cell, str(copy))),
        parts=dict(zip(AXES, cell, strict=True)) | where,
    )


def _seed_texts(cfg: Config, documents: Path) -> list[dict[str, Any]]:
    """The beginnings of the documents whose ids have the least hashes, in that order."""
    import heapq

    from llmhpc.tokens.shards import hash64, parse, read_lines, shard_paths

    def found() -> Iterator[tuple[int, str, str, str]]:
        for line in read_lines(shard_paths(documents)):
            document = parse(line)
            url = str(document.get("metadata", {}).get("url", ""))
            text = document["text"][: cfg.seed_characters]
            yield hash64(document["id"], DOCUMENTS.encode()), document["id"], url, text

    picked = heapq.nsmallest(min(cfg.seed_texts, cfg.requests(0, 0)), found())
    return [{"id": identity, "url": url, "text": text} for _, identity, url, text in picked]
