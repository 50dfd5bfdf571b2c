"""Rules that keep or drop one document: one module per rule, each with a ``Config`` and ``build``.

A rule module holds

    class Config(Rule)                               thresholds, with the paper that named them
    def build(cfg, removed: DiskWriter) -> BaseFilter    a datatrove filter that gives ``removed`` what it drops

A dropped document says which value dropped it: wrap the filter in ``blocks.explained.Explained``.
"""

from dataclasses import dataclass, field
from enum import Enum
from fnmatch import fnmatchcase
from typing import ClassVar

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError

EXTRACT = "extract"  # the name of the extraction among the rules, in counts and in removed/


@dataclass(kw_only=True, slots=True)
class Rule:
    """Base of every rule's settings."""

    group: ClassVar[str] = "rule"

    kind: str = MISSING

    def before_launch(self) -> None:
        """Raise ConfigError if something this rule needs is not there; quick, and nothing is written."""


class Engine(Enum):
    """What takes the main text out of a page."""

    trafilatura = "trafilatura"  # Barbaresi, ACL 2021 demos: the reference
    fast = "fast"  # resiliparse (Bevendorff et al., ECIR 2018): some twenty times as fast


class Splitter(Enum):
    """What splits texts into the words and sentences that rules count."""

    spacy = "spacy"  # every text anew: the reference
    remembered = (
        "remembered"  # each distinct stretch between blanks once: the same but for some emoticons
    )


@dataclass(kw_only=True, slots=True)
class Extraction:
    """How the main text is taken out of a page, and by what: one engine, or others for some domains."""

    engine: Engine = Engine.trafilatura
    # a domain (with those below it), or an address without https:// in which * stands for anything -> its engine
    engines: dict[str, Engine] = field(default_factory=dict)
    favour_precision: bool = True  # trafilatura: less text, but surely main text
    timeout_s: float = 30.0  # generous: a page must not be lost because its node is busy

    def __post_init__(self) -> None:
        at_least(self, "timeout_s", 1)
        for pattern in self.engines:
            if "://" in pattern or not pattern.strip():
                raise ConfigError(
                    f"engines.{pattern}: a domain such as example.org, or an address without https:// "
                    "such as example.org/docs/*"
                )

    def engine_of(self, url: str) -> Engine:
        """The engine for the page at ``url``: of the first line that it fits, else ``engine``."""
        address = url.partition("://")[2]
        host = address.partition("/")[0].lower()
        for pattern, engine in self.engines.items():
            if fnmatchcase(address, pattern) or f".{host}".endswith(f".{pattern.lower()}"):
                return engine
        return self.engine


def above(name: str, value: float, most: float) -> str:
    """Why a document was dropped: a value over its limit."""
    return f"{name} {value:.4g} > {most:g}"


def below(name: str, value: float, least: float) -> str:
    """Why a document was dropped: a value under its limit."""
    return f"{name} {value:.4g} < {least:g}"
