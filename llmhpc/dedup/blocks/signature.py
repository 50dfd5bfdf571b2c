"""datatrove's MinHash signatures to the last bit, in a small part of the time and with bounded memory.

Stock spends nine tenths of its time on splitting words with spaCy, then hashes n-grams one string after
another and reduces modulo 2^61 - 1 by division. Here the words of a stretch between blanks are remembered,
an n-gram is a slice of the joined words, and a Mersenne prime needs no division.
"""

from functools import lru_cache
from itertools import accumulate

import numpy as np
import xxhash
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from datatrove.utils.text import TextNormConfig, simplify_text
from datatrove.utils.word_tokenizers import SpaCyTokenizer, WordTokenizer, load_word_tokenizer

HASH_SEED = 1  # of the hash functions: fixed, so that signatures of different runs can be compared
CACHED = 1 << 18  # entries of each cache: together about 120 MB
SHINGLES_AT_ONCE = 256  # x 112 hashes x 8 bytes: two such arrays stay in a core's cache
PRIME = np.uint64((1 << 61) - 1)
PRIME_BITS = np.uint64(61)
BLANK = ord(" ")
EXCESS = 8  # x mod 2^61 + x div 2^61 is less than the prime + 8


class Signer:
    """Signs texts as datatrove's block does for the same parameters (64-bit xxhash, its text normalization)."""

    def __init__(self, hashes: int, ngram_words: int, language: str) -> None:
        config = MinhashConfig(
            n_grams=ngram_words,
            num_buckets=1,
            hashes_per_bucket=hashes,
            seed=HASH_SEED,
            hash_config=HashConfig(precision=64, hash_fc="xxhash"),
        )
        self.ngram_words = ngram_words
        self._normal = config.norm_config
        self._words = load_word_tokenizer(language)
        self._chunkwise = splits_at_blanks(self._words)
        self._chunks = _Chunks(self._words, self._normal) if splits_at_blanks(self._words) else None
        stock = MinhashDedupSignature(".", config, language)
        self._factors, self._offsets = (table.reshape(1, -1) for table in stock.parameters)
        self._x = np.empty((SHINGLES_AT_ONCE, hashes), np.uint64)
        self._high = np.empty_like(self._x)

    def sign(self, text: str) -> np.ndarray | None:
        """The minimum of each hash function over the text's n-grams, shape (hashes,); None if it has no n-gram."""
        shingles = self.shingles(text)
        return self.minima(shingles) if len(shingles) else None

    def shingles(self, text: str) -> np.ndarray:
        """The hash of each n-gram of words, shape (n,)."""
        joined, starts, stops = self._words_of(text)
        stops = stops[self.ngram_words - 1 :]
        digest = xxhash.xxh64_intdigest
        slices = (digest(joined[a:b]) for a, b in zip(starts, stops, strict=False))
        return np.fromiter(slices, np.uint64, len(stops))

    def _words_of(self, text: str) -> tuple[bytes, list[int], list[int]]:
        """The words of the simplified text with blanks between them, and where each begins and ends."""
        if self._chunks is None:
            words = self._words.word_tokenize(simplify_text(text, self._normal))
            encoded = [word.encode() for word in words]
            stops = list(accumulate((len(word) + 1 for word in encoded), initial=-1))[1:]
            return b" ".join(encoded), [0, *(at + 1 for at in stops)], stops
        if len(self._chunks) > CACHED:
            self._chunks.clear()
        # all of the simplification happens between blanks, but for lower case
        joined = b"".join(map(self._chunks.__getitem__, text.lower().split()))
        stops = np.flatnonzero(np.frombuffer(joined, np.uint8) == BLANK).tolist()
        return joined, [0, *(at + 1 for at in stops)], stops

    def minima(self, shingles: np.ndarray) -> np.ndarray:
        """min over the shingles s of (s a + b mod 2^64) mod (2^61 - 1), for each hash function (a, b)."""
        least = np.full(self._x.shape[1], np.iinfo(np.uint64).max, np.uint64)
        for start in range(0, len(shingles), SHINGLES_AT_ONCE):
            some = shingles[start : start + SHINGLES_AT_ONCE, None]
            x, high = self._x[: len(some)], self._high[: len(some)]
            np.multiply(some, self._factors, out=x)
            np.add(x, self._offsets, out=x)
            np.right_shift(x, PRIME_BITS, out=high)
            np.bitwise_and(x, PRIME, out=x)
            np.add(x, high, out=x)
            # below the prime this wraps and keeps its order; the rare others land in 0..7, ahead of all
            np.subtract(x, PRIME, out=x)
            np.minimum(least, x.min(axis=0), out=least)
        if (least < EXCESS).any():
            return _minima_by_division(shingles, self._factors, self._offsets)
        return least + PRIME


class _Chunks(dict[str, bytes]):
    """A stretch of lower-case text between blanks -> the words in it, each with a blank behind it."""

    def __init__(self, words: SpaCyTokenizer, normal: TextNormConfig) -> None:
        super().__init__()
        self._normal = normal
        self._tokenizer = words.tokenizer.tokenizer  # the rest of spaCy's pipeline finds sentences
        rules = self._tokenizer
        self._exceptions = frozenset(rules.rules)
        # what finds a place to divide a word at; a language may lack one, then the tokenizer itself is asked
        searches = [rules.prefix_search, rules.suffix_search, rules.infix_finditer]
        self._searches = searches if all(searches) else None
        self._divide = lru_cache(CACHED)(self._parts)

    def __missing__(self, chunk: str) -> bytes:
        plain = chunk.isascii() and chunk.isalpha()  # nothing to simplify
        words = [chunk] if plain else simplify_text(chunk, self._normal).split()
        self[chunk] = found = b"".join(map(self._divide, words))
        return found

    def _parts(self, word: str) -> bytes:
        """What spaCy's tokenizer makes of a word. It leaves a word as it is that is no exception and in which no
        prefix, suffix or infix is found; to look for those is faster than to call it.
        """
        if self._searches and word not in self._exceptions:
            prefix, suffix, infixes = self._searches
            if not (prefix(word) or suffix(word) or next(iter(infixes(word)), None)):
                return f"{word} ".encode()
        parts = (token.text.strip() for token in self._tokenizer(word))
        return "".join(f"{part} " for part in parts if part).encode()


def _minima_by_division(
    shingles: np.ndarray, factors: np.ndarray, offsets: np.ndarray
) -> np.ndarray:
    pieces = range(0, len(shingles), SHINGLES_AT_ONCE)
    minima = [
        ((shingles[start : start + SHINGLES_AT_ONCE, None] * factors + offsets) % PRIME).min(axis=0)
        for start in pieces
    ]
    return np.min(minima, axis=0)


def splits_at_blanks(words: WordTokenizer) -> bool:
    """Whether ``words`` is spaCy's rule-based tokenizer, whose first act is to split at blanks.

    Some languages have exceptions that span a blank ("z. B."): they need the whole text.
    """
    from spacy.tokenizer import Tokenizer

    if not isinstance(words, SpaCyTokenizer):
        return False
    tokenizer = words.tokenizer.tokenizer
    return type(tokenizer) is Tokenizer and not any(
        len(rule.split()) > 1 for rule in tokenizer.rules
    )
