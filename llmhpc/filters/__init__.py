"""Rules that keep or drop one document: one module per rule, each with a ``Config`` and ``build``.

A rule module holds

    class Config(Rule)                               thresholds, with the paper that named them
    def build(cfg, removed: DiskWriter) -> BaseFilter    a datatrove filter that gives ``removed`` what it drops

A dropped document says which value dropped it: wrap the filter in ``blocks.explained.Explained``.
"""

from dataclasses import dataclass
from typing import ClassVar

from omegaconf import MISSING

from llmhpc.config import at_least

EXTRACT = "extract"  # the name of the extraction among the rules, in counts and in removed/


@dataclass(kw_only=True, slots=True)
class Rule:
    """Base of every rule's settings."""

    group: ClassVar[str] = "rule"

    kind: str = MISSING

    def before_launch(self) -> None:
        """Raise ConfigError if something this rule needs is not there; quick, and nothing is written."""


@dataclass(kw_only=True, slots=True)
class Extraction:
    """How the main text is taken out of a page: trafilatura (Barbaresi, ACL 2021 demos)."""

    favour_precision: bool = True  # less text, but surely main text
    timeout_s: float = 30.0  # generous: a page must not be lost because its node is busy

    def __post_init__(self) -> None:
        at_least(self, "timeout_s", 1)


def above(name: str, value: float, most: float) -> str:
    """Why a document was dropped: a value over its limit."""
    return f"{name} {value:.4g} > {most:g}"


def below(name: str, value: float, least: float) -> str:
    """Why a document was dropped: a value under its limit."""
    return f"{name} {value:.4g} < {least:g}"
