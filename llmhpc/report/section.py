"""What a section of the page is, for the page and for the sections."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How much of the documents is shown."""

    examples: int  # of each rule
    example_characters: int  # of each example


@dataclass(frozen=True, kw_only=True)
class Section:
    """One part of the page: the template ``name``.html shows ``values``."""

    name: str
    title: str
    values: dict[str, Any] = field(default_factory=dict)

    @property
    def template(self) -> str:
        return f"{self.name}.html"
