"""Mixes sets of documents in given shares of tokens, by whole copies and a part of one.

Each document has a place on a line, by a hash of seed and id. A set that is read 2.3 times gives every document
twice and once more those on the first 0.3 of the line, measured in tokens. The line is cut into stretches of
which the tokens are known, so that ranks need to tell each other BINS numbers and no more, and what is taken
is within one document or 1/BINS of a set of what was asked for. A further copy of a document has its id with
REPEAT behind it: it is shuffled for itself, and is held out if the first one is.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from llmhpc.errors import StageError
from llmhpc.tokens.shards import HASH_BITS, REPEAT, Progress, hash64, parse, read_lines, silent

BIN_BITS = 14
BINS = 1 << BIN_BITS
SAME = 1e-9  # relative; sums of floats differ by less


@dataclass(frozen=True, kw_only=True, slots=True)
class Share:
    """What is taken of one set: every document ``copies`` times, and once more those in the first ``bins`` bins."""

    there: float  # tokens of the set
    taken: float  # tokens, all copies together
    copies: int
    bins: int


def measure(
    shards: list[Path], size: Callable[[str], int], seed: int, progress: Progress = silent
) -> np.ndarray:
    """int64, shape (BINS,): the sizes of the documents of ``shards``, added up by their place on the line."""
    sizes = np.zeros(BINS, dtype=np.int64)
    for line in read_lines(shards, progress):
        document = parse(line)
        sizes[_bin(document["id"], seed)] += size(document["text"])
    return sizes


def share_out(
    sets: dict[str, np.ndarray], weights: dict[str, float], most: dict[str, float], wanted: int
) -> dict[str, Share]:
    """How often each set is read. ``sets``: tokens by bin; ``most``: times a set may be read.

    ``wanted`` tokens in all; 0: as many as ``most`` lets there be. Raises StageError if a set is too small.
    """
    whole = sum(weights.values())
    there = {name: float(sizes.sum()) for name, sizes in sets.items()}
    if empty := [name for name, tokens in there.items() if not tokens]:
        raise StageError(f"needs.{empty[0]}: its documents have no text, nothing to mix")
    limits = {name: most[name] * there[name] * whole / weights[name] for name in sets}
    short = min(limits, key=lambda name: (limits[name], name))
    total = wanted or limits[short]
    if total > limits[short] * (1 + SAME):
        times = total * weights[short] / whole / there[short]
        raise StageError(
            f"mixture_tokens={wanted}: {short} has {there[short]:,.0f} and would be read {times:.2f} times; "
            f"{int(limits[short])} or fewer, or repeats.{short}={math.ceil(100 * times) / 100:g}"
        )
    return {name: _share(sets[name], total * weights[name] / whole) for name in sets}


def _share(sizes: np.ndarray, tokens: float) -> Share:
    there = float(sizes.sum())
    copies = int(tokens / there * (1 + SAME))
    ends = np.concatenate([[0.0], np.cumsum(sizes, dtype=np.float64)])
    bins = int(np.abs(ends - max(0.0, tokens - copies * there)).argmin())
    return Share(there=there, taken=copies * there + float(ends[bins]), copies=copies, bins=bins)


def copies_of(
    shards: list[Path],
    name: str,
    copies: int,
    bins: int,
    seed: int,
    progress: Progress = silent,
) -> Iterator[bytes]:
    """The lines of the copies that a ``Share`` takes of the documents of ``shards``; ``metadata.mix`` is the set."""
    for line in read_lines(shards, progress):
        document = parse(line)
        identity = document["id"]
        document["metadata"] = document.get("metadata", {}) | {"mix": name}
        for copy in range(copies + (_bin(identity, seed) < bins)):
            yield orjson.dumps(document | {"id": f"{identity}{REPEAT}{copy}" if copy else identity})


def _bin(identity: str, seed: int) -> int:
    return hash64(identity, f"mix {seed}".encode()) >> (HASH_BITS - BIN_BITS)


def plain(shares: dict[str, Share], weights: dict[str, float]) -> dict[str, Any]:
    """The shares for a person: tokens that are there and taken, how often each set is read."""
    total = sum(share.taken for share in shares.values())
    return {
        name: {
            "weight": weights[name] / sum(weights.values()),
            "share": share.taken / total,
            "tokens_there": round(share.there),
            "tokens": round(share.taken),
            "read": round(share.taken / share.there, 4),
            "copies": share.copies,
            "bins": share.bins,
        }
        for name, share in shares.items()
    }
