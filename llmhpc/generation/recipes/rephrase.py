"""Pages said again in other styles, as in WRAP (Maini et al., arXiv 2401.16380).

A page is cut into passages, since what a model is given at once and has to say again it shortens (section 3.1 there).
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.generation import Request
from llmhpc.generation.recipes import DOCUMENTS, Part, Recipe, check_template

PLACES = 1 << 64


@dataclass(kw_only=True, slots=True)
class Config(Recipe):
    """Styles, each a prompt with {text}, and which share of the passages gets each."""

    kind: str = "rephrase"
    styles: dict[str, str] = field(default_factory=dict)  # name -> prompt
    shares: dict[str, float] = field(default_factory=dict)  # of the passages; not named: 1, all
    documents_share: float = 1.0  # of the documents, picked by a hash of their ids
    passage_characters: int = (
        1500  # at most, cut at a paragraph, a sentence or a blank; about 300 tokens
    )
    passage_characters_min: int = 200  # a shorter rest is not asked for

    def __post_init__(self) -> None:
        at_least(self, "passage_characters_min", 1)
        at_least(self, "passage_characters", self.passage_characters_min)
        if not self.styles:
            raise ConfigError("styles is empty: a name and a prompt with {text} for each")
        for name, prompt in self.styles.items():
            check_template(f"styles.{name}", prompt, {"text"}, set())
        for name, share in {**self.shares, "": self.documents_share}.items():
            if name and name not in self.styles:
                raise ConfigError(f"shares.{name}: one of styles, {', '.join(self.styles)}")
            if not 0 <= share <= 1:
                key = f"shares.{name}" if name else "documents_share"
                raise ConfigError(f"{key}={share}: a fraction from 0 to 1")

    def check_documents(self, has_step: bool) -> None:
        """Raise ConfigError unless there are pages."""
        if not has_step:
            raise ConfigError("needs.documents is not set: a step that writes documents/")

    def requests(self, documents: int, text_bytes: int) -> int:
        """By whichever is known."""
        passages = max(documents, text_bytes // self.passage_characters)
        styles = sum(self.shares.get(name, 1.0) for name in self.styles)
        return round(passages * styles * self.documents_share)

    def prompt_characters(self) -> int:
        """The longest prompt with the longest passage."""
        return max(map(len, self.styles.values())) + self.passage_characters


def parts(cfg: Config, documents: Path | None) -> list[Part]:
    """A part for each shard."""
    from llmhpc.tokens.shards import shard_paths

    assert documents is not None
    return [lambda shard=shard: _requests(cfg, shard) for shard in shard_paths(documents)]  # type: ignore[misc]


def _requests(cfg: Config, shard: Path) -> Iterator[Request]:
    from llmhpc.tokens.shards import parse, read_lines

    for line in read_lines([shard]):
        document = parse(line)
        if _place(document["id"], "") >= cfg.documents_share:
            continue
        for number, passage in enumerate(passages(document["text"], cfg)):
            for style, prompt in cfg.styles.items():
                if _place(f"{document['id']}/{number}", style) < cfg.shares.get(style, 1.0):
                    yield _request(document, number, passage, style, prompt)


def _request(
    document: dict[str, Any], number: int, passage: str, style: str, prompt: str
) -> Request:
    return Request(
        prompt=prompt.format(text=passage).strip(),
        place=f"{document['id']}/{number}/{style}",
        parts={
            "style": style,
            "seed_id": document["id"],
            "seed_url": str(document.get("metadata", {}).get("url", "")),
            "seed_passage": number,
        },
    )


def _place(identity: str, style: str) -> float:
    from llmhpc.tokens.shards import hash64

    return hash64(f"{style}:{identity}", DOCUMENTS.encode()) / PLACES


def passages(text: str, cfg: Config) -> Iterator[str]:
    """The text in pieces, each as long as it may be and cut where the most ends."""
    rest = text.strip()
    while len(rest) >= cfg.passage_characters_min:
        cut = _cut(rest, cfg.passage_characters, cfg.passage_characters_min)
        yield rest[:cut].strip()
        rest = rest[cut:].strip()


def _cut(text: str, most: int, least: int) -> int:
    """Behind the last paragraph that fits, else line, sentence, word."""
    if len(text) <= most:
        return len(text)
    for end in (r"\n\s*\n", r"\n", r"[.!?]['\")]*\s", r"\s"):
        ends = [found.end() for found in re.finditer(end, text[: most + 1]) if found.end() >= least]
        if ends:
            return min(ends[-1], most)
    return most
