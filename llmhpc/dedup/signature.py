"""datatrove's MinHash signatures to the last bit, in less time and with bounded memory."""

from functools import lru_cache

import numpy as np
from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.word_tokenizers import SpaCyTokenizer, WordTokenizer, load_word_tokenizer

CACHED_CHUNKS = 1 << 18  # about 60 MB
SHINGLES_AT_ONCE = 1 << 14  # x 112 hashes x 8 bytes = 15 MB for each intermediate array


class Signatures(MinhashDedupSignature):
    """The stock block, less two costs.

    spaCy splits every occurrence of every word anew, which is four fifths of the block's time: here the
    parts of a word are remembered. And a document is hashed as a whole, with about 3 GB for a million
    words: here in pieces, whose minimum is the same.
    """

    def __init__(self, output_folder: str, config: MinhashConfig, language: str) -> None:
        super().__init__(output_folder, config, language)
        words = load_word_tokenizer(language)
        if splits_at_blanks(words):
            self.word_tokenizer = CachedWords(words)

    def get_signature(self, shingles: np.ndarray) -> list[list[int]]:
        """The minimum of each hash function over ``shingles``, shape (n, 1), by bucket."""
        pieces = range(0, len(shingles), SHINGLES_AT_ONCE)
        whole = super().get_signature
        signatures = [whole(shingles[start : start + SHINGLES_AT_ONCE]) for start in pieces]
        return signatures[0] if len(signatures) == 1 else np.min(signatures, axis=0).tolist()


class CachedWords:
    """Splits words as ``words`` does, each distinct stretch between blanks only once."""

    def __init__(self, words: WordTokenizer) -> None:
        self._split = lru_cache(CACHED_CHUNKS)(lambda chunk: words.word_tokenize(chunk))

    def word_tokenize(self, text: str) -> list[str]:
        """The words of ``text``, without blanks around them."""
        return [word for chunk in text.split() for word in self._split(chunk)]


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
