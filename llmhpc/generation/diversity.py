"""How much generated documents repeat each other, over a sample that is picked by a hash of their ids."""

import heapq
import random
import zlib
from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from llmhpc.dedup.blocks.signature import Signer
from llmhpc.dedup.minhash import Config as MinHash
from llmhpc.tokens.shards import Progress, hash64, parse, read_lines, shard_paths

LONGEST_NGRAM = 4
PAIRS = 2000  # of a group: a standard error of 0.01 or less
PERCENTILES = (5, 50, 95)
BASE = np.uint64(0x9E3779B97F4A7C15)  # odd, and far larger than a vocabulary
GROUPED_BY = ("topic", "audience", "style")


class Text(NamedTuple):
    """A document of the sample; ``words`` are numbers of a vocabulary, shape (n,)."""

    text: str
    groups: dict[str, str]
    words: np.ndarray
    signature: np.ndarray | None


def report(home: Path, most: int, progress: Progress) -> dict[str, Any]:
    """The figures of the documents in ``home``; at most ``most`` of them are held in memory."""
    lines = read_lines(shard_paths(home), progress)
    numbered = ((hash64(d["id"], b"diversity"), d["id"], d) for d in map(parse, lines))
    sample = _texts(d for _, _, d in heapq.nsmallest(most, numbered))
    groups = {
        axis: {name: _figures(members) for name, members in named.items()}
        for axis, named in _groups(sample).items()
    }
    return {"sampled": len(sample), "all": _figures(sample), "by": groups}


def _texts(documents: Iterable[dict[str, Any]]) -> list[Text]:
    buckets, hashes = MinHash().bands()
    signer = Signer(buckets * hashes, MinHash().ngram_words, MinHash().language)
    vocabulary: dict[str, int] = {}
    sample = []
    for document in documents:
        text, told = document["text"], document["metadata"]
        numbers = [vocabulary.setdefault(word, len(vocabulary)) for word in text.lower().split()]
        groups = {axis: told[axis] for axis in GROUPED_BY if axis in told}
        sample.append(Text(text, groups, np.array(numbers, np.uint64), signer.sign(text)))
    return sample


def _groups(sample: list[Text]) -> dict[str, dict[str, list[Text]]]:
    """Axis -> name -> its documents."""
    groups: dict[str, dict[str, list[Text]]] = {}
    for axis in GROUPED_BY:
        named: dict[str, list[Text]] = defaultdict(list)
        for one in sample:
            if axis in one.groups:
                named[one.groups[axis]].append(one)
        if named:
            groups[axis] = dict(sorted(named.items()))
    return groups


def _figures(texts: list[Text]) -> dict[str, Any]:
    joined = "\n".join(one.text for one in texts).encode()
    words = [one.words for one in texts]
    signed = [one.signature for one in texts if one.signature is not None]
    return {
        "documents": len(texts),
        "words": _spread([len(row) for row in words]),
        # distinct n-grams over all (Li et al., arXiv 1510.03055): falls as there is more text
        "distinct_ngrams": {str(n): _distinct(words, n) for n in range(1, LONGEST_NGRAM + 1)},
        # Shaib et al., arXiv 2403.00553: text that repeats itself is made smaller
        "compression_ratio": round(len(joined) / len(zlib.compress(joined)), 3),
        "near_duplicates": _near_duplicates(signed),
        "self_similarity": _self_similarity(signed),
    }


def _spread(numbers: list[int]) -> dict[str, float]:
    if not numbers:
        return {}
    found = {f"p{p}": float(np.percentile(numbers, p)) for p in PERCENTILES}
    return {"mean": round(float(np.mean(numbers)), 2)} | found


def _distinct(rows: list[np.ndarray], length: int) -> float | None:
    """Distinct n-grams over all; None if there is none."""
    grams = np.concatenate([np.empty(0, np.uint64), *(_ngrams(row, length) for row in rows)])
    return round(len(np.unique(grams)) / len(grams), 4) if len(grams) else None


def _ngrams(row: np.ndarray, length: int) -> np.ndarray:
    """A 64-bit hash of each n-gram: its words as the digits of a number."""
    hashes = np.zeros(max(len(row) - length + 1, 0), np.uint64)
    for at in range(length):
        hashes = hashes * BASE + row[at : at + len(hashes)]
    return hashes


def _near_duplicates(signed: list[np.ndarray]) -> float | None:
    """The share of documents that share a MinHash bucket with another, as stage dedup would find them."""
    _, hashes = MinHash().bands()
    met: dict[tuple[int, bytes], int] = {}
    doubled: set[int] = set()
    for number, signature in enumerate(signed):
        for bucket, row in enumerate(signature.reshape(-1, hashes)):
            first = met.setdefault((bucket, row.tobytes()), number)
            if first != number:
                doubled |= {first, number}
    return round(len(doubled) / len(signed), 4) if signed else None


def _self_similarity(signed: list[np.ndarray]) -> float | None:
    """The mean Jaccard similarity of 5-grams of two documents, estimated from signatures, over pairs of a group."""
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
