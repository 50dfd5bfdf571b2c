"""Mask what identifies a person: email addresses, public IP addresses, telephone numbers."""

import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from llmhpc.config import at_least
from llmhpc.filters import Rule, above

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.formatters.pii import PIIFormatter
    from datatrove.pipeline.writers.disk_base import DiskWriter

PHONE = re.compile(r"(?<!\S)\(?\d{3}\)?[-. ]*\d{3}[-. ]?\d{4}\b")
DOTTED = re.compile(r"\d\.\d")  # no IP address without it


class Kind(NamedTuple):
    """Something to mask: where ``possible`` is found and ``pattern`` matches what ``holds``."""

    name: str
    possible: re.Pattern[str]
    pattern: re.Pattern[str]
    mask: str
    holds: Callable[[str], bool] = bool


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """FineWeb masks emails and public IPs (Penedo et al., arXiv 2406.17557, section 3.7), by datatrove's patterns.

    Every one gets the same mask: to take turns would make a text depend on the documents before it. Dolma
    (Soldaini et al., arXiv 2402.00159, section 3.1.4) masks North American telephone numbers too
    (``phones=true``) and drops documents with more than 5 of all kinds (``max_found=5``).
    """

    kind: str = "pii"
    emails: bool = True
    ips: bool = True
    phones: bool = False
    email_mask: str = "email@example.com"  # a domain that nobody can own (RFC 2606)
    ip_mask: str = "192.0.2.1"  # an address that nobody can have (RFC 5737)
    phone_mask: str = "555-0100"  # a number that nobody can have (reserved for fiction)
    max_found: int = 0  # with more a document is dropped; 0: never

    def __post_init__(self) -> None:
        at_least(self, "max_found", 0)


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """A filter that masks with datatrove's patterns for emails and IP addresses."""
    from datatrove.pipeline.formatters.pii import PIIFormatter

    from llmhpc.filters.blocks.edits import Editor
    from llmhpc.filters.blocks.explained import Explained

    masks = kinds(cfg, PIIFormatter())

    class Masks(Editor):
        """Masks, and drops a document in which there was too much to mask."""

        private = True

        def edit(self, text: str, counts: Counter[str]) -> tuple[str, str]:
            masked = mask(text, masks, counts)
            too_many = cfg.max_found and sum(counts.values()) > cfg.max_found
            return masked, "too_much_pii" if too_many else ""

    def explain(doc: "Document", reason: str) -> str:
        counts: Counter[str] = Counter()
        mask(doc.text, masks, counts)
        return above("pii", sum(counts.values()), cfg.max_found)

    return Explained(Masks(), explain, removed)


def kinds(cfg: Config, known: "PIIFormatter") -> list[Kind]:
    """What is to be masked, with datatrove's patterns where it has one."""
    emails = Kind("emails", re.compile("@"), known.emails_replacer.regex, cfg.email_mask)
    ips = Kind("ips", DOTTED, known.ip_replacer.regex, cfg.ip_mask, known.ip_replacer.validator)
    phones = Kind("phones", re.compile(r"\d{4}"), PHONE, cfg.phone_mask)
    return [
        kind
        for kind, wanted in ((emails, cfg.emails), (ips, cfg.ips), (phones, cfg.phones))
        if wanted
    ]


def mask(text: str, masks: list[Kind], counts: Counter[str]) -> str:
    """The text with everything masked that was not already; counts it by kind."""
    for kind in masks:
        if kind.possible.search(text):  # much faster than the pattern itself

            def one(found: re.Match[str], kind: Kind = kind) -> str:
                if found[0] == kind.mask or not kind.holds(found[0]):
                    return found[0]
                counts[f"edit-{kind.name}"] += 1
                return kind.mask

            text = kind.pattern.sub(one, text)
    return text
