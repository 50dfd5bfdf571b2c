"""The domain of a document: what documents are told apart by in ledgers and lists."""

from typing import Any
from urllib.parse import urlsplit

PLACES = ("repository", "source")  # of a document without an address, the first that it has
UNKNOWN = "unknown"


def domain_of(metadata: dict[str, Any]) -> str:
    """The host of ``url`` in lower case without www. and port; else the repository or the source's file; else unknown."""
    try:
        host = urlsplit(str(metadata.get("url") or "")).hostname or ""
    except ValueError:  # brackets that are no IPv6 address
        host = ""
    if host := host.rstrip(".").removeprefix("www."):
        return host
    return next((str(metadata[key]) for key in PLACES if metadata.get(key)), UNKNOWN)
