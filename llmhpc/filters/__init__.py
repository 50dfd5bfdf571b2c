"""Rules that keep or drop one document: one module per rule, each with a ``Config`` and ``build``.

A rule module holds

    class Config(Rule)                               thresholds, with the paper that named them
    def build(cfg, removed: DiskWriter) -> BaseFilter    a datatrove filter that gives ``removed`` what it drops

A dropped document says which value dropped it: wrap the filter in ``blocks.explained.Explained``. A rule
may edit ``doc.text``; it counts what it did under ``line-<kind>`` and ``edit-<what>``, and what it took out of a
document that goes on is a record in removed/, too (``blocks.parts``). ``keep_share`` and ``where`` work for every
rule without its help (``blocks.lenient``). One that needs no text says so (``before_extract``).
"""

from dataclasses import dataclass, field, fields, replace
from enum import Enum
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, ClassVar

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from llmhpc.config import at_least, fraction
from llmhpc.errors import ConfigError

OF_PAGE = "page_characters"  # metadata of a removed page whose main text was not taken out: its HTML, of which the text is the start
EXTRACT = "extract"  # the name of the extraction among the rules, in counts and in removed/


@dataclass(kw_only=True, slots=True)
class Rule:
    """Base of every rule's settings.

    ``where`` holds other values for some addresses: the key is a domain (``example.org``, which its
    subdomains share) or, with a ``/`` or ``*`` in it, a pattern for the address without its scheme
    (``*.example.org/forum/*``). A pattern goes before a domain, the longer before the shorter.
    """

    group: ClassVar[str] = "rule"
    # the file in a step that makes this rule's ``model``; that step plays the rule's name in needs
    from_step: ClassVar[str] = ""
    # it asks for metadata alone, so it drops pages before the work of taking out their text
    before_extract: ClassVar[bool] = False

    kind: str = MISSING
    keep_share: float = 0.0  # of the documents that it would drop, picked by a hash of their ids
    where: dict[str, dict[str, Any]] = field(default_factory=dict)

    def check_common(self) -> None:
        """Raise ConfigError if ``keep_share`` or a value in ``where`` is wrong."""
        fraction(self, "keep_share")
        self.variants()

    def check_model(self, role: str, has_step: bool) -> None:
        """Raise ConfigError unless there is one model: a file, or a step that plays ``role``."""
        given = getattr(self, "model", None)
        if self.from_step and not has_step and given is None:
            raise ConfigError(
                f"model is not set: a path, or needs.{role}, a step that writes {self.from_step}"
            )
        if has_step and given is not None:
            raise ConfigError(f"model={given}: needs.{role} has one already; only one of them")

    def of_step(self, step: Path | None) -> "Rule":
        """This rule with the model that a step made."""
        if step is None:
            return self
        return replace(self, model=str(step / self.from_step))  # type: ignore[call-arg]

    def variants(self) -> dict[str, "Rule"]:
        """This rule with the values for each key of ``where``. Raises ConfigError for a wrong one."""
        return {place: self._variant(place, values) for place, values in self.where.items()}

    def _variant(self, place: str, values: dict[str, Any]) -> "Rule":
        valid = [f.name for f in fields(self) if f.name not in ("kind", "where")]
        for name in values:
            if name not in valid:
                raise ConfigError(f"where[{place}].{name}: no such value; {', '.join(valid)}")
        try:
            base = OmegaConf.structured(replace(self, where={}))
            variant = OmegaConf.to_object(OmegaConf.merge(base, values))
            fraction(variant, "keep_share")
        except (ConfigError, OmegaConfBaseException) as error:
            raise ConfigError(f"where[{place}].{str(error).splitlines()[0]}") from None
        return variant  # type: ignore[return-value]

    def before_launch(self) -> None:
        """Raise ConfigError if something this rule needs is not there; quick, and nothing is written."""


class Engine(Enum):
    """What takes the text out of a page."""

    trafilatura = "trafilatura"  # Barbaresi, ACL 2021 demos: the reference
    fast = "fast"  # resiliparse (Bevendorff et al., ECIR 2018): some twenty times as fast
    whole = "whole"  # all text of the page, with its menus and frames: what WET files have


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
