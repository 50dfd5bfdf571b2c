"""Clusters of documents by their words: hashed tf-idf, spherical k-means; the same texts give the same file."""

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix
from sklearn.feature_extraction.text import HashingVectorizer

WORD = r"(?u)\b[^\W\d_]{3,}\b"
ROUNDS = 50  # of k-means at most
TERMS = 12  # that describe a cluster
SCORE_DIGITS = 4  # the last digits of a float32 sum differ between processors


class Clusters(NamedTuple):
    """Centres (k, features) of unit length, the weight of each feature (idf), and words that tell what they are."""

    centres: NDArray[np.float32]
    idf: NDArray[np.float32]
    terms: list[list[str]]


def vectors(texts: Iterable[str], features: int) -> csr_matrix:
    """(texts, features): 1 + log of the count of words with each hash."""
    counts = HashingVectorizer(
        n_features=features, token_pattern=WORD, norm=None, alternate_sign=False, dtype=np.float32
    ).transform(texts)
    counts.data = 1 + np.log(counts.data)
    return counts


def weigh(counts: csr_matrix, idf: NDArray[np.float32]) -> csr_matrix:
    """The same with features weighted, rows of unit length; a text without words stays 0."""
    weighted = counts.multiply(idf[None, :]).tocsr().astype(np.float32)
    lengths = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    weighted.data /= np.repeat(np.where(lengths > 0, lengths, 1), np.diff(weighted.indptr))
    return weighted


def learn(texts: list[str], k: int, features: int, seed: int) -> tuple[Clusters, NDArray[np.int64]]:
    """(the clusters, the number of texts in each): Dhillon and Modha 2001 (doi 10.1023/A:1007612920971).

    Centres begin as far apart as k-means++ (Arthur and Vassilvitskii, SODA 2007) draws them.
    """
    counts = vectors(texts, features)
    seen_in = np.bincount(counts.indices, minlength=features)
    idf = np.log((1 + len(texts)) / (1 + seen_in)).astype(np.float32)
    rows = weigh(counts, idf)
    centres = _begin(rows, k, np.random.default_rng(seed))
    nearest = np.full(len(texts), -1)
    for _ in range(ROUNDS):
        found = np.asarray(rows @ centres.T).argmax(axis=1)
        if (found == nearest).all():
            break
        nearest = found
        member = csr_matrix(
            (np.ones(len(texts), np.float32), (nearest, np.arange(len(texts)))), (k, len(texts))
        )
        sums = np.asarray((member @ rows).todense())
        lengths = np.linalg.norm(sums, axis=1, keepdims=True)
        centres = np.where(lengths > 0, sums / np.where(lengths > 0, lengths, 1), centres)
    found = Clusters(centres.astype(np.float32), idf, _terms(texts, nearest, k))
    return found, np.bincount(nearest, minlength=k)


def _begin(rows: csr_matrix, k: int, draw: np.random.Generator) -> NDArray[np.float32]:
    chosen = [int(draw.integers(rows.shape[0]))]
    away = np.ones(rows.shape[0])
    while len(chosen) < k:
        likeness = np.asarray((rows @ rows[chosen[-1]].T).todense()).ravel()
        away = np.clip(np.minimum(away, 1 - likeness), 0, None)
        away[chosen] = 0
        total = away.sum()
        chosen.append(int(draw.choice(len(away), p=away / total if total else None)))
    return np.asarray(rows[chosen].todense())


def _terms(texts: list[str], nearest: NDArray[np.int64], k: int) -> list[list[str]]:
    """The words of each cluster that are most frequent there against everywhere."""
    everywhere: dict[str, int] = {}
    inside: list[dict[str, int]] = [{} for _ in range(k)]
    for text, cluster in zip(texts, nearest, strict=True):
        for word in set(re.findall(WORD, text.lower())):
            everywhere[word] = everywhere.get(word, 0) + 1
            inside[cluster][word] = inside[cluster].get(word, 0) + 1
    return [
        sorted(words, key=lambda word: (-(words[word] ** 2) / everywhere[word], word))[:TERMS]
        for words in inside
    ]


def save(clusters: Clusters, path: Path) -> None:
    """Write the clusters; no time stamp in the file."""
    with path.open("wb") as file:
        head = json.dumps({"shape": clusters.centres.shape, "terms": clusters.terms})
        file.write(head.encode() + b"\n")
        file.write(clusters.centres.tobytes() + clusters.idf.tobytes())


def load(path: Path) -> Clusters:
    """Read what ``save`` wrote."""
    with path.open("rb") as file:
        head = json.loads(file.readline())
        k, features = head["shape"]
        values = np.frombuffer(file.read(), np.float32)
    return Clusters(
        values[: k * features].reshape(k, features), values[k * features :], head["terms"]
    )


def nearest(clusters: Clusters, text: str) -> tuple[int, float]:
    """(the cluster, cosine to its centre) of one text; cosine 0 for a text without words."""
    row = weigh(vectors([text], len(clusters.idf)), clusters.idf)
    likeness = np.round(np.asarray(row @ clusters.centres.T).ravel(), SCORE_DIGITS)
    return int(likeness.argmax()), float(likeness.max())
