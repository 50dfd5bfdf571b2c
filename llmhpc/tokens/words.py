"""The ids of a text from those of its words: words repeat, so most are encoded only once. The same ids as the tokenizer's.

A text is cut only where the tokenizer's own pieces (``bpe.pattern``) end whatever stands around, which makes encoding the parts
the same as encoding the whole:

- before a blank that follows something else than a blank: no piece has a blank behind its first character, but for line ends;
- behind the last line end of a run of blanks: the pieces of such a run end there;
- behind a row of ASCII letters that another ASCII character follows, and behind an ASCII digit, for the smaller parts that a
  word is looked up by when it is new.
"""

import json
import re
from array import array
from collections.abc import Iterable
from itertools import chain
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from llmhpc.tokens.bpe import pattern

REMEMBERED = 1 << 19  # words, about 100 MB; then all are forgotten
TYPECODES = {2: "H", 4: "I"}  # of array, by the bytes of a token id

# What \s is to the tokenizer's own patterns (Unicode's White_Space): Python's \s has four control characters more.
LINE_END = r"\r\n"
BLANK = r"\t\v\f \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
SPACE = BLANK + LINE_END
WORD = re.compile(
    rf"[{BLANK}]*[^{SPACE}]+(?:[{SPACE}]*[{LINE_END}]+)?|[{SPACE}]*[{LINE_END}]+|[{SPACE}]+"
)
PUNCTUATION = r"!-/:-@\[-`{-~"
BEFORE = rf"[{BLANK}]*[{PUNCTUATION}]*"
DIGITS = {  # as in bpe.NUMBERS
    "split": "[0-9]",
    "up_to_999": "[0-9]{1,3}(?=(?:[0-9]{3}){0,10}(?![0-9]))",
}
PARTS = {
    pattern(digits): re.compile(
        rf"{BEFORE}[A-Za-z]+(?![A-Za-z\x80-\U0010ffff])"
        rf"|{BEFORE}{number}"
        rf"|[{SPACE}]*[{LINE_END}]+"  # ahead of WORD: behind letters it is no part of a longer piece
        rf"|{WORD.pattern}"
    )
    for digits, number in DIGITS.items()
}


class Words:
    """Encodes texts by looking their words up."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype) -> None:
        self._tokenizer = tokenizer
        self._dtype = dtype
        self._typecode = TYPECODES[dtype.itemsize]
        self._words: dict[str, bytes] = {}
        self._parts: dict[str, bytes] = {}
        self._part = PARTS[_steps(json.loads(tokenizer.to_str()))[0]["pattern"]["Regex"]]

    def encode(self, texts: list[str], end: int) -> list[np.ndarray]:
        """The ids of each text followed by ``end``."""
        last = np.array([end], dtype=self._dtype).tobytes()
        rows = [WORD.findall(text) for text in texts]
        self._learn(set(chain.from_iterable(rows)))
        ids = self._words.__getitem__
        return [np.frombuffer(b"".join(map(ids, row)) + last, dtype=self._dtype) for row in rows]

    def _learn(self, words: set[str]) -> None:
        if len(self._words) > REMEMBERED:
            self._words.clear()
            self._parts.clear()
        new = {word: self._part.findall(word) for word in words.difference(self._words)}
        self._encode(set(chain.from_iterable(new.values())).difference(self._parts))
        ids = self._parts.__getitem__
        self._words |= {word: b"".join(map(ids, parts)) for word, parts in new.items()}

    def _encode(self, parts: Iterable[str]) -> None:
        parts = list(parts)
        encodings = self._tokenizer.encode_batch_fast(parts, add_special_tokens=False)
        for part, encoding in zip(parts, encodings, strict=True):
            self._parts[part] = array(self._typecode, encoding.ids).tobytes()


def has_known_pieces(tokenizer: Tokenizer) -> bool:
    """Whether the tokenizer cuts texts as ``bpe.train_bpe`` has it, and does nothing else to them."""
    model = json.loads(tokenizer.to_str())
    steps = _steps(model)
    return (
        model["model"]["type"] == "BPE"
        and not model["model"]["dropout"]
        and model["normalizer"] is None
        and model["truncation"] is None
        and all(token["special"] for token in model["added_tokens"])
        and [step["type"] for step in steps] == ["Split", "ByteLevel"]
        and steps[0]["pattern"].get("Regex") in PARTS
        and steps[0]["behavior"] == "Isolated"
        and not steps[0]["invert"]
        and not steps[1]["add_prefix_space"]
        and not steps[1]["use_regex"]
    )


def _steps(tokenizer: dict[str, Any]) -> list[dict[str, Any]]:
    return (tokenizer["pre_tokenizer"] or {}).get("pretokenizers", [])
