"""Documents with planted near-copies, how alike they are, and which of them share a MinHash bucket."""

import random
from collections import defaultdict
from itertools import combinations
from typing import Any

NGRAM, BUCKETS, HASHES = 5, 14, 8  # datatrove's and FineWeb's choice
THRESHOLD = 0.7  # similarity of the duplicates that MinHash is to find
REPLACED = (0.01, 0.08)  # share of a copy's words: its similarity lies around the threshold
Pair = tuple[int, int]


def with_copies(texts: list[str]) -> list[str]:
    """The texts, and each once more with some words replaced."""
    draw, copies = random.Random(0), []
    for text in texts:
        words = text.split()
        for at in draw.sample(range(len(words)), int(len(words) * draw.uniform(*REPLACED))):
            words[at] = f"word{draw.randrange(1 << 30):x}"
        copies.append(" ".join(words))
    return texts + copies


def similarities(stock: Any, texts: list[str]) -> dict[Pair, float]:
    """The Jaccard similarity of the word n-grams of all pairs that share one, by counting them."""
    from datatrove.utils.text import ngrams, simplify_text

    split = stock.word_tokenizer.word_tokenize
    sets = [set(ngrams(split(simplify_text(text)), NGRAM)) for text in texts]
    holders: dict[Any, list[int]] = defaultdict(list)
    for number, grams in enumerate(sets):
        for gram in grams:
            holders[gram].append(number)
    common: dict[Pair, int] = defaultdict(int)
    for numbers in holders.values():
        for pair in combinations(numbers, 2):
            common[pair] += 1
    return {(a, b): n / (len(sets[a]) + len(sets[b]) - n) for (a, b), n in common.items()}


def sharing_a_bucket(signatures: list[Any]) -> set[Pair]:
    """The pairs that MinHash takes for duplicates."""
    holders: dict[Any, list[int]] = defaultdict(list)
    for number, signature in enumerate(signatures):
        if signature is not None:
            for bucket, part in enumerate(signature.reshape(BUCKETS, HASHES)):
                holders[bucket, part.tobytes()].append(number)
    return {pair for numbers in holders.values() for pair in combinations(numbers, 2)}
