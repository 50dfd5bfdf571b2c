"""Drop pages by their address: listed domains and addresses, words in it; no network."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.filters import Rule

if TYPE_CHECKING:
    from datatrove.data import Document
    from datatrove.pipeline.filters.base_filter import BaseFilter
    from datatrove.pipeline.writers.disk_base import DiskWriter


@dataclass(kw_only=True, slots=True)
class Config(Rule):
    """RefinedWeb's filter of addresses (Penedo et al., arXiv 2306.01116, appendix G.1), with FineWeb's lists.

    A page is dropped for a listed domain or address, for one whole word of ``words``, for
    ``min_soft_words`` of ``soft_words``, or for a part of a word in ``subwords``. ``builtin_lists`` adds
    those of datatrove's wheel, among them 4.6 million domains: 4 s and 0.8 GB in each rank, and once 125 MB
    in Hugging Face's cache. A page without an address stays.
    """

    before_extract: ClassVar[bool] = True

    kind: str = "url"
    builtin_lists: bool = True
    domains: list[str] = field(default_factory=list)  # with their subdomains if registered ones
    domain_file: str | None = None  # one on a line; # begins a comment
    urls: list[str] = field(default_factory=list)
    url_file: str | None = None
    words: list[str] = field(default_factory=list)
    soft_words: list[str] = field(default_factory=list)
    min_soft_words: int = 2
    subwords: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        at_least(self, "min_soft_words", 1)
        if not self.builtin_lists and not (
            self.domains
            or self.domain_file
            or self.urls
            or self.url_file
            or self.words
            or self.soft_words
            or self.subwords
        ):
            raise ConfigError("builtin_lists=false: then name domains, urls or words to drop")

    def before_launch(self) -> None:
        """Raise ConfigError if a list's file is not there."""
        for name in ("domain_file", "url_file"):
            path = getattr(self, name)
            if path is not None and not Path(path).is_file():
                raise ConfigError(f"{name}={path}: is not there; a text file, one entry on a line")


def build(cfg: Config, removed: "DiskWriter | None" = None) -> "BaseFilter":
    """datatrove's filter with these lists."""
    from datatrove.pipeline.filters import URLFilter
    from datatrove.pipeline.filters.url_filter import normalize, normalizer
    from tldextract import TLDExtract

    from llmhpc.filters.blocks.explained import Explained

    class Addresses(URLFilter):
        """Asks no server for the list of public suffixes; lets pages without an address pass."""

        def filter(self, document: "Document") -> bool | tuple[bool, str]:
            return super().filter(document) if document.metadata.get("url") else True

    judge = Addresses(
        soft_word_threshold=cfg.min_soft_words,
        extra_domains=[*cfg.domains, *_lines(cfg.domain_file)],
        extra_urls=[*cfg.urls, *_lines(cfg.url_file)],
        banned_words=cfg.words,
        banned_subwords=cfg.subwords,
        soft_banned_words=cfg.soft_words,
        use_integrated_lists=cfg.builtin_lists,
    )
    judge.tldextractor = TLDExtract(suffix_list_urls=(), cache_dir=None)

    def explain(doc: "Document", reason: str) -> str:
        url = doc.metadata["url"]
        parts, words = judge.tldextractor(url), set(normalizer.split(url))
        soft = sorted(words & judge.soft_banned_words)
        hit = {
            "domain": f"domain {parts.top_domain_under_public_suffix} is listed",
            "subdomain": f"domain {parts.fqdn} is listed",
            "url": "the address is listed",
            "hard_blacklisted": f"word {', '.join(sorted(words & judge.banned_words))} in the address",
            "soft_blacklisted": f"soft words {len(soft)} >= {cfg.min_soft_words}: {', '.join(soft)}",
        }
        if reason in hit:
            return hit[reason]
        inside = [word for word in sorted(judge.banned_subwords) if word in normalize(url)]
        return f"part of a word {', '.join(inside)} in the address"

    return Explained(judge, explain, removed)


def _lines(path: str | None) -> list[str]:
    """The entries of a list's file, as datatrove reads its own."""
    lines = Path(path).read_text(encoding="utf-8").splitlines() if path else []
    return [line for line in lines if line.strip()]
