"""What a text is made of for substrings: bytes, or the tokens of a tokenizer, and where they lie in it."""

from typing import Protocol

import numpy as np

from llmhpc.dedup.blocks.repeats import ToCharacters

CONTINUES, MASK = 0x80, 0xC0  # a byte of UTF-8 that is not the first of its character: 10xxxxxx


class Units(Protocol):
    """Units of ``width`` bytes each."""

    width: int

    def of(self, text: str) -> np.ndarray:
        """The units of a text, shape (n,)."""

    def characters(self, text: str) -> ToCharacters:
        """Tells which whole characters lie in units start:end of the text."""


class Bytes:
    """UTF-8."""

    width = 1

    def of(self, text: str) -> np.ndarray:
        """The bytes of a text, shape (n,)."""
        return np.frombuffer(text.encode("utf-8", "surrogatepass"), np.uint8)

    def characters(self, text: str) -> ToCharacters:
        """Tells which whole characters lie in bytes start:end."""
        if text.isascii():
            return lambda start, end: (start, end)
        begins = (np.append(self.of(text), 0) & MASK) != CONTINUES
        before = np.concatenate([[0], np.cumsum(begins)])  # characters begun ahead of each byte
        return lambda start, end: (int(before[start]), int(before[end]) - (not begins[end]))


class Tokens:
    """The tokens of a tokenizer.json."""

    width = 4

    def __init__(self, path: str) -> None:
        from tokenizers import Tokenizer

        self._tokenizer = Tokenizer.from_file(path)

    def of(self, text: str) -> np.ndarray:
        """The ids of a text's tokens, shape (n,)."""
        return np.array(self._tokenizer.encode(text, add_special_tokens=False).ids, np.uint32)

    def characters(self, text: str) -> ToCharacters:
        """Tells which whole characters lie in tokens start:end; a character may be made of several."""
        places = self._tokenizer.encode(text, add_special_tokens=False).offsets

        def characters(start: int, end: int) -> tuple[int, int]:
            first, last = places[start][0], places[end - 1][1]
            if start:
                first = max(first, places[start - 1][1])
            if end < len(places):
                last = min(last, places[end][0])
            return first, last

        return characters


def units_of(tokenizer: str) -> Units:
    """Tokens if a tokenizer is named, else bytes."""
    return Tokens(tokenizer) if tokenizer else Bytes()
