"""A rule with other values for some addresses, which keeps a share of what it would drop."""

import hashlib
import re
from collections.abc import Callable
from fnmatch import translate
from urllib.parse import urlsplit

from datatrove.data import Document
from datatrove.pipeline.filters.base_filter import get_filter_result
from datatrove.pipeline.writers.disk_base import DiskWriter

from llmhpc.filters import Rule
from llmhpc.filters.blocks.explained import BECAUSE, Explained
from llmhpc.filters.blocks.parts import WithParts

SPARED = "spared_by_"  # + the rule's name: why the document would have been dropped
HASH_BITS = 64


class Lenient(WithParts):
    """The decisions of ``build(rule)``, or of the variant of ``rule`` that a document's address asks for.

    A document to drop stays, as it came, if the hash of its id and the rule's name lies below keep_share:
    rules pick independently of each other, and neither rank nor order matters.
    """

    def __init__(
        self,
        name: str,
        rule: Rule,
        build: Callable[[Rule], Explained],
        removed: DiskWriter | None = None,
    ) -> None:
        super().__init__(removed)
        self.rule_name = name
        variants = rule.variants()
        self.general = (build(rule), rule.keep_share)
        built = {key: (build(variant), variant.keep_share) for key, variant in variants.items()}
        patterns = sorted(
            (key for key in built if is_pattern(key)), key=lambda key: (-len(key), key)
        )
        self.patterns = [(re.compile(translate(key)), built[key]) for key in patterns]
        self.domains = {key.lower(): built[key] for key in built if not is_pattern(key)}
        self.judges = [
            judge for chosen, _ in (self.general, *built.values()) for judge in chosen.judges
        ]

    def filter(self, doc: Document) -> bool | tuple[bool, str]:
        """True, or False with the reason of the rule."""
        chosen, share = self._for(doc.metadata.get("url") or "")
        text = doc.text
        kept, reason = get_filter_result(chosen.filter(doc))
        if kept:
            self.write_part(doc, text)
            return True
        if place(doc.id, self.rule_name) >= share:
            return False, reason
        doc.text = text
        doc.metadata[SPARED + self.rule_name] = doc.metadata.pop(BECAUSE)
        self.stat_update(f"spared_{reason}")
        return True

    def _for(self, url: str) -> tuple[Explained, float]:
        address = url.partition("://")[2] or url
        for pattern, chosen in self.patterns:
            if pattern.match(address):
                return chosen
        host = urlsplit(f"//{address}").hostname or "" if self.domains else ""
        while host:
            if host in self.domains:
                return self.domains[host]
            host = host.partition(".")[2]
        return self.general


def is_pattern(key: str) -> bool:
    """True for a key of ``where`` that is compared with whole addresses."""
    return "/" in key or "*" in key


def place(identity: str, rule: str) -> float:
    """Where the id lies on this rule's line from 0 to 1 (BLAKE2b, RFC 7693)."""
    digest = hashlib.blake2b(f"{rule}\0{identity}".encode(), digest_size=HASH_BITS // 8).digest()
    return int.from_bytes(digest, "big") / (1 << HASH_BITS)
