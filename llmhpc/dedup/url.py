"""Documents of the same address: exact, by a 128-bit hash of the address in normal form."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from llmhpc.config import Phase, at_least
from llmhpc.dedup import Method
from llmhpc.errors import ConfigError
from llmhpc.task import Task

PORTS = {"http": 80, "https": 443}


@dataclass(kw_only=True, slots=True)
class Config(Method):
    """Settings of URL deduplication. A document without an address is kept."""

    kind: str = "url"
    url_field: str = "url"  # of the metadata
    buckets: int = 1  # what addresses are dealt to, and the array tasks that compare them

    def __post_init__(self) -> None:
        Method.__post_init__(self)
        at_least(self, "buckets", 1)
        if not self.url_field:
            raise ConfigError("url_field='': the field of the metadata that holds the address")

    def phases(self, ranks: int) -> list[Phase]:
        """Keys, those that are there twice, clusters, documents."""
        return [
            Phase("keys", ranks),
            Phase("buckets", self.buckets),
            Phase("clusters", 1),
            Phase("filter", ranks),
        ]


def normal_form(url: str) -> str:
    """An address without what does not tell pages apart: scheme, www., case of the host, port of the scheme,
    fragment, slash at the end. An address that cannot be split stays as it is."""
    try:
        parts = urlsplit(url.strip())
        host, port = (parts.hostname or "").removeprefix("www."), parts.port
    except ValueError:
        return url.strip()
    place = host if port in (None, PORTS.get(parts.scheme)) else f"{host}:{port}"
    return place + parts.path.rstrip("/") + (f"?{parts.query}" if parts.query else "")


def run(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    """One task of the phases keys, buckets, clusters and filter."""
    import numpy as np

    from llmhpc.dedup.blocks import clusters

    work, mine = task.home / "work", out / "work"
    if task.phase == "keys":
        return _write_keys(cfg, documents, mine, task)
    if task.phase == "buckets":
        return clusters.write_pairs(cfg, work, mine, cfg.buckets, task)
    if task.phase == "clusters":
        return clusters.write_verdicts(cfg, work, mine)
    return clusters.keep_best(cfg, documents, work, out, task, lambda ones, _: np.ones(len(ones)))


def _write_keys(cfg: Config, documents: Path, out: Path, task: Task) -> dict[str, Any]:
    import xxhash

    from llmhpc.dedup.blocks import shards
    from llmhpc.dedup.blocks.dealt import Dealer

    register, without = shards.Register(cfg, out / "register"), 0
    with Dealer(cfg, out, task.rank, cfg.buckets, columns=3, key=0) as dealer:
        for doc in shards.read(documents, task.rank, task.ranks, task.progress):
            register.add(doc)
            if url := doc.metadata.get(cfg.url_field):
                key = xxhash.xxh3_128_intdigest(
                    shards.salt(cfg, doc) + normal_form(str(url)).encode()
                )
                dealer.add((*shards.halves(key), doc.number))
            else:
                without += 1
    register.close()
    return {"without_url": without}
