"""How hard a text is to predict, told by the held-out documents alone: a model of characters, not of tokens."""

import hashlib
import math
from collections import Counter
from collections.abc import Iterable

from llmhpc.evals.material.heldout import Document

ORDER = 4  # characters of an n-gram: correlates best with a trained model's bits per byte, 0.87
UNIFORM = 1 / 256
TRAINING_CHARACTERS = 1_000_000  # of each half; about 3 s


class Surprise:
    """Nats per byte of a text, under n-grams of the half of the documents that it is not from.

    Interpolated with shorter n-grams by the share of contexts that were followed by something new: Witten and
    Bell, The zero-frequency problem (IEEE Trans. Information Theory 37, 1991), method C.
    """

    def __init__(self, documents: list[Document]) -> None:
        halves: tuple[list[str], list[str]] = ([], [])
        self.half: dict[str, int] = {}
        ordered = sorted((hashlib.sha256(d.id.encode()).digest(), d) for d in documents)
        for place, (_, document) in enumerate(ordered):
            self.half[document.id] = place % 2
            halves[place % 2].append(document.text)
        self.grams = [_Grams(texts) for texts in halves]

    def __call__(self, document: str, text: str) -> float:
        """Of a text of the document with the id ``document``."""
        return self.grams[1 - self.half[document]].nats(text) / len(text.encode())


class _Grams:
    """Counts of n-grams, of what follows each context, and of how many different things do."""

    def __init__(self, texts: Iterable[str]) -> None:
        self.follows: Counter[str] = Counter()
        self.seen: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        left = TRAINING_CHARACTERS
        for text in texts:
            self._add(text[:left])
            left -= len(text)
            if left <= 0:
                break

    def _add(self, text: str) -> None:
        for n in range(1, ORDER + 1):
            for end in range(n, len(text) + 1):
                gram = text[end - n : end]
                if not self.follows[gram]:
                    self.kinds[gram[:-1]] += 1
                self.follows[gram] += 1
                self.seen[gram[:-1]] += 1

    def nats(self, text: str) -> float:
        """Negative log-likelihood of a text."""
        total = 0.0
        for end in range(1, len(text) + 1):
            likelihood = UNIFORM
            for n in range(1, min(ORDER, end) + 1):
                gram = text[end - n : end]
                if not (seen := self.seen[gram[:-1]]):
                    break
                kinds = self.kinds[gram[:-1]]
                likelihood = (self.follows[gram] + kinds * likelihood) / (seen + kinds)
            total -= math.log(likelihood)
        return total
