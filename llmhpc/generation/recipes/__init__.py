"""What is asked: one module per recipe, each with a ``Config`` and ``parts``.

A recipe module holds

    class Config(Recipe)                                   prompts and how often each is used
    def parts(cfg, documents) -> list[Part]                the requests, in parts that ranks can take or share

``documents`` is the directory of a step, or None. What a part gives does not depend on who takes it.
"""

import importlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from string import Formatter
from typing import ClassVar

from omegaconf import MISSING

from llmhpc.errors import ConfigError
from llmhpc.generation import Request

DOCUMENTS = "documents"
Part = Callable[[], Iterator[Request]]


@dataclass(kw_only=True, slots=True)
class Recipe:
    """Base of every recipe's settings."""

    group: ClassVar[str] = "recipe"

    kind: str = MISSING

    def check_documents(self, has_step: bool) -> None:
        """Raise ConfigError unless documents are there if and only if they are used."""

    def requests(self, documents: int, text_bytes: int) -> int:
        """About how many there will be for so many documents of so much text (0: not known); 0: nobody knows."""
        return 0

    def prompt_characters(self) -> int:
        """Of one prompt, about."""
        raise NotImplementedError


def parts(cfg: Recipe, documents: Path | None) -> list[Part]:
    """Those of whichever recipe ``cfg`` is."""
    return importlib.import_module(f"{__name__}.{cfg.kind}").parts(cfg, documents)


def share_of(parts: list[Part], size: int, rank: int, ranks: int) -> Iterator[list[Request]]:
    """The groups of ``size`` requests that a rank answers: its parts, or its turns in the one it shares."""
    mine, sharers = rank // len(parts), len(range(rank % len(parts), ranks, len(parts)))
    for part in parts[rank % len(parts) :: ranks]:
        requests, number = part(), 0
        while group := list(islice(requests, size)):
            if number % sharers == mine:
                yield group
            number += 1


def check_template(name: str, template: str, needed: set[str], known: set[str]) -> None:
    """Raise ConfigError unless the template has the needed {names} and no unknown one."""
    try:
        found = {field for _, field, _, _ in Formatter().parse(template) if field is not None}
    except ValueError as error:
        raise ConfigError(f"{name}: {error}; a brace that is text is written twice") from None
    wrong = sorted((needed - found) | (found - needed - known))
    if wrong:
        right = ", ".join(f"{{{field}}}" for field in sorted(needed))
        raise ConfigError(
            f"{name}: {{{wrong[0]}}} is missing or unknown; it needs {right or 'no names'}"
        )
