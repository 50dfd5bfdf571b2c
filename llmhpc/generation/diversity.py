"""How much generated documents repeat each other, over a sample that is picked by a hash of their ids."""

import heapq
import random
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np

from llmhpc.dedup.blocks.signature import Signer
from llmhpc.dedup.minhash import Config as MinHash
from llmhpc.tokens.shards import Progress, hash64, parse, read_lines, shard_paths

LONGEST_NGRAM = 4
PAIRS = 2000  # of a group: a standard error of 0.01 or less
PERCENTILES = (5, 50, 95)
GROUPED_BY = ("topic", "audience", "style")


def report(home: Path, most: int, progress: Progress) -> dict[str, Any]:
    """The figures of the documents in ``home``; at most ``most`` of them are held in memory."""
    lines = read_lines(shard_paths(home), progress)
    numbered = ((hash64(d["id"], b"diversity"), d["id"], d) for d in map(parse, lines))
    sample = [d for _, _, d in heapq.nsmallest(most, numbered)]
    signatures = _signatures([d["text"] for d in sample])
    groups = {
        axis: {name: _figures(signatures, sample, members) for name, members in named.items()}
        for axis, named in _groups(sample).items()
    }
    whole = _figures(signatures, sample, list(range(len(sample))))
    return {"sampled": len(sample), "all": whole, "by": groups}


def _groups(sample: list[dict[str, Any]]) -> dict[str, dict[str, list[int]]]:
    """Axis -> name -> the numbers of its documents."""
    groups: dict[str, dict[str, list[int]]] = {}
    for axis in GROUPED_BY:
        named: dict[str, list[int]] = defaultdict(list)
        for number, document in enumerate(sample):
            if axis in document["metadata"]:
                named[document["metadata"][axis]].append(number)
        if named:
            groups[axis] = dict(sorted(named.items()))
    return groups


def _signatures(texts: list[str]) -> list[np.ndarray | None]:
    buckets, hashes = MinHash().bands()
    signer = Signer(buckets * hashes, MinHash().ngram_words, MinHash().language)
    return [signer.sign(text) for text in texts]


def _figures(
    signatures: list[np.ndarray | None], sample: list[dict[str, Any]], members: list[int]
) -> dict[str, Any]:
    texts = [sample[n]["text"] for n in members]
    words = [text.lower().split() for text in texts]
    joined = "\n".join(texts).encode()
    return {
        "documents": len(members),
        "words": _spread([len(row) for row in words]),
        # distinct n-grams over all (Li et al., arXiv 1510.03055): falls as there is more text
        "distinct_ngrams": {str(n): _distinct(words, n) for n in range(1, LONGEST_NGRAM + 1)},
        # Shaib et al., arXiv 2403.00553; 2 to 3 for English as people write it
        "compression_ratio": round(len(joined) / max(len(zlib.compress(joined)), 1), 3),
        "near_duplicates": _near_duplicates([signatures[n] for n in members]),
        "self_similarity": _self_similarity([signatures[n] for n in members]),
    }


def _spread(numbers: list[int]) -> dict[str, float]:
    if not numbers:
        return {}
    found = {f"p{p}": float(np.percentile(numbers, p)) for p in PERCENTILES}
    return {"mean": round(float(np.mean(numbers)), 2)} | found


def _distinct(words: list[list[str]], length: int) -> float | None:
    """Distinct n-grams over all; None if there is none."""
    grams: Counter[tuple[str, ...]] = Counter()
    for row in words:
        grams.update(zip(*(row[at:] for at in range(length)), strict=False))
    return round(len(grams) / grams.total(), 4) if grams else None


def _near_duplicates(signatures: list[np.ndarray | None]) -> float | None:
    """The share of documents that share a MinHash bucket with another, as stage dedup would find them."""
    _, hashes = MinHash().bands()
    met: dict[tuple[int, bytes], int] = {}
    doubled: set[int] = set()
    signed = [(n, s) for n, s in enumerate(signatures) if s is not None]
    for number, signature in signed:
        for bucket, row in enumerate(signature.reshape(-1, hashes)):
            first = met.setdefault((bucket, row.tobytes()), number)
            if first != number:
                doubled |= {first, number}
    return round(len(doubled) / len(signed), 4) if signed else None


def _self_similarity(signatures: list[np.ndarray | None]) -> float | None:
    """The mean Jaccard similarity of 5-grams of two documents, estimated from signatures, over pairs of a group."""
    signed = [s for s in signatures if s is not None]
    if len(signed) < 2:
        return None
    alike = [float((one == other).mean()) for one, other in _pairs(signed)]
    return round(sum(alike) / len(alike), 5)


def _pairs(signed: list[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    count = len(signed)
    if count * (count - 1) // 2 <= PAIRS:
        yield from combinations(signed, 2)
        return
    draw = random.Random(0)
    for _ in range(PAIRS):
        one, other = draw.sample(range(count), 2)
        yield signed[one], signed[other]
