"""How fast documents are signed for MinHash, and what is found, beside datatrove's own block on the same documents.

python -m benchmarks.dedup DOCUMENTS [--documents 1000] [--threshold 0.7]

DOCUMENTS is the documents/ of a step, as the quickstart's filter step writes them. A quarter of the documents is there
once more with some words replaced, so that their similarities lie around the threshold. The truth is the Jaccard
similarity of the word n-grams, counted exactly; recall and precision are those of the pairs that share a bucket.
"""

import argparse
import random
import time
from collections import defaultdict
from collections.abc import Iterable
from itertools import combinations, islice
from pathlib import Path
from typing import Any

import numpy as np
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.text import ngrams, simplify_text

from llmhpc.dedup.blocks.shards import read
from llmhpc.dedup.blocks.signature import HASH_SEED, Signer

BUCKETS, HASHES, NGRAM = 14, 8, 5
NEAR = 0.3  # pairs less alike than this are not looked for
Pair = tuple[int, int]


def with_near_copies(texts: list[str], seed: int = 0) -> list[str]:
    """The texts, and every fourth once more with 1 to 8 percent of its words replaced."""
    rng, copies = random.Random(seed), []
    for text in texts[::4]:
        words = text.split()
        for at in rng.sample(range(len(words)), int(len(words) * rng.uniform(0.01, 0.08))):
            words[at] = f"word{rng.randrange(1 << 30):x}"
        copies.append(" ".join(words))
    return texts + copies


def truly_alike(stock: MinhashDedupSignature, texts: list[str]) -> dict[Pair, float]:
    """The Jaccard similarity of all pairs that share n-grams, by counting them."""
    sets = [
        set(ngrams(stock.word_tokenizer.word_tokenize(simplify_text(text)), NGRAM))
        for text in texts
    ]
    holders: dict[Any, list[int]] = defaultdict(list)
    for number, grams in enumerate(sets):
        for gram in grams:
            holders[gram].append(number)
    common: dict[Pair, int] = defaultdict(int)
    for numbers in holders.values():
        for pair in combinations(numbers, 2):
            common[pair] += 1
    found = {p: n / (len(sets[p[0]]) + len(sets[p[1]]) - n) for p, n in common.items()}
    return {pair: alike for pair, alike in found.items() if alike >= NEAR}


def paired(signatures: Iterable[np.ndarray | None]) -> set[Pair]:
    """The pairs that share a bucket."""
    buckets: dict[Any, list[int]] = defaultdict(list)
    for number, signature in enumerate(signatures):
        if signature is not None:
            for bucket, part in enumerate(signature.reshape(BUCKETS, HASHES)):
                buckets[bucket, part.tobytes()].append(number)
    return {pair for numbers in buckets.values() for pair in combinations(numbers, 2)}


def stock_signature(stock: MinhashDedupSignature, text: str) -> np.ndarray | None:
    """What datatrove's block writes for a text."""
    shingles = stock.get_shingles(text)
    return np.concatenate(stock.get_signature(shingles)) if len(shingles) else None


def quality(pairs: set[Pair], truth: dict[Pair, float], threshold: float) -> tuple[float, float]:
    """Recall and precision at a similarity."""
    wanted = {pair for pair, alike in truth.items() if alike >= threshold}
    return len(pairs & wanted) / len(wanted), len(pairs & wanted) / len(pairs)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("documents", type=Path)
    parser.add_argument("--documents", type=int, default=1000, dest="most")
    parser.add_argument("--threshold", type=float, default=0.7)
    arguments = parser.parse_args()
    found = islice(read(arguments.documents, 0, 1, lambda *_: None), arguments.most)
    texts = with_near_copies([doc.document["text"] for doc in found])
    config = MinhashConfig(
        n_grams=NGRAM, num_buckets=BUCKETS, hashes_per_bucket=HASHES, seed=HASH_SEED
    )
    stock, ours = MinhashDedupSignature(".", config, "en"), Signer(BUCKETS * HASHES, NGRAM, "en")
    stock_signature(stock, texts[0])  # loads spaCy's rules
    seconds, signatures = {"datatrove": 0.0, "llmhpc": 0.0}, {"datatrove": [], "llmhpc": []}
    for text in texts:  # in turn, so that a busy machine slows down both
        for name, sign in (
            ("datatrove", lambda t: stock_signature(stock, t)),
            ("llmhpc", ours.sign),
        ):
            begin = time.process_time()
            signatures[name].append(sign(text))
            seconds[name] += time.process_time() - begin
    truth = truly_alike(stock, texts)
    print(f"{len(texts)} documents, {sum(map(len, texts)) / 1e6:.1f} million characters, one core")
    for name, taken in seconds.items():
        recall, precision = quality(paired(signatures[name]), truth, arguments.threshold)
        print(
            f"{name:10} {taken:7.2f} s of CPU  {len(texts) / taken:7.0f} documents/s"
            f"  recall {recall:.3f}  precision {precision:.3f} at {arguments.threshold:g}"
        )
    same = sum(map(np.array_equal, *signatures.values()))
    print(
        f"{seconds['datatrove'] / seconds['llmhpc']:.1f} times as fast; {same} signatures the same"
    )


if __name__ == "__main__":
    main()
