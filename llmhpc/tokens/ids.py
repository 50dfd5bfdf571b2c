"""The ids of texts: by compiled loops for tokenizers as ``bpe.train_bpe`` makes them, else by the tokenizers library.

The loops give the library's ids in a fraction of its time (benchmarks/data.py).
"""

import json
from functools import cache
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import numpy as np
from tokenizers import Regex, Tokenizer, models, pre_tokenizers

from llmhpc.tokens.bpe import NUMBERS, byte_letters, untrained

if TYPE_CHECKING:
    from llmhpc.tokens.compiled import Tables

SLOTS = 1 << 17  # pieces remembered
LONGEST = 30  # bytes of a piece that is remembered
MOST_IDS = 8  # of a piece that is remembered
CODE_POINTS = 0x110000
SURROGATES = range(0xD800, 0xE000)  # no characters
ASKED = 1 << 12  # characters at a time: the library looks its places up by walking


class Ids:
    """Encodes texts, many at a time. The loops remember pieces from one call to the next, in 8 MB."""

    def __init__(self, tokenizer: Tokenizer, dtype: np.dtype) -> None:
        self._tokenizer = tokenizer
        self._dtype = dtype
        digits = known_digits(tokenizer)
        self._tables = tables(tokenizer, digits) if digits else None
        if digits:
            from llmhpc.tokens.compiled import Memory

            keys, ids = (SLOTS, 2 + LONGEST), (SLOTS, MOST_IDS)
            self._memory = Memory(keys=np.zeros(keys, np.uint8), ids=np.zeros(ids, np.uint32))

    def encode(self, texts: list[str], end: int) -> list[np.ndarray]:
        """The ids of each text followed by ``end``."""
        if self._tables is None:
            return self.reference(texts, end)
        from llmhpc.tokens.compiled import encode

        encoded = [text.encode() for text in texts]
        ends = np.fromiter(accumulate(map(len, encoded)), np.int64, len(encoded))
        text = np.frombuffer(b"".join(encoded), np.uint8)
        out = np.empty(len(text) + len(texts), np.uint32)
        until = encode(text, ends, end, self._tables, self._memory, out).tolist()
        return [out[a:b].astype(self._dtype) for a, b in zip([0, *until], until, strict=False)]

    def reference(self, texts: list[str], end: int) -> list[np.ndarray]:
        """The same by the tokenizers library."""
        encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array([*encoding.ids, end], dtype=self._dtype) for encoding in encodings]


def known_digits(tokenizer: Tokenizer) -> str | None:
    """The setting of digits, if the tokenizer does what ``bpe.train_bpe`` has it do, and nothing else; or None."""
    content = json.loads(tokenizer.to_str())
    special = all(token["special"] for token in content["added_tokens"])
    if special and tokenizer.encode_special_tokens:
        for digits in NUMBERS:
            if _rules(content) == _rules(json.loads(untrained(models.BPE(), digits).to_str())):
                return digits if byte_letters().keys() <= content["model"]["vocab"].keys() else None
    return None


def _rules(content: dict[str, Any]) -> dict[str, Any]:
    """What decides over the ids of a text beside the vocabulary, the merges and the added tokens."""
    model = {name: v for name, v in content["model"].items() if name not in ("vocab", "merges")}
    steps = ("normalizer", "pre_tokenizer", "truncation", "padding")
    return {"model": model} | {step: content[step] for step in steps}


def tables(tokenizer: Tokenizer, digits: str) -> "Tables":
    """A tokenizer as the loops want it."""
    from llmhpc.tokens.compiled import Tables, pair_table

    model, letters = json.loads(tokenizer.to_str())["model"], byte_letters()
    ids, merges = model["vocab"], model["merges"]
    left, right, made = (
        np.array([ids[name] for name in names], np.int64)
        for names in ([a for a, _ in merges], [b for _, b in merges], [a + b for a, b in merges])
    )
    return Tables(
        kinds=kinds_of_characters(),
        threes=digits == "up_to_999",
        bytes=np.array([ids[letter] for letter in sorted(letters, key=letters.__getitem__)]),
        pairs=pair_table(left, right, 1 << (2 * len(merges) + 1).bit_length()),
        made=made,
    )


@cache
def kinds_of_characters() -> np.ndarray:
    """Shape (code points,), uint8: what the tokenizers library takes them for, whose Unicode is not Python's."""
    from llmhpc.tokens.compiled import BLANK, LETTER, LINE_END, NUMBER, OTHER

    patterns = {LETTER: r"[\p{L}\p{M}]", NUMBER: r"\p{N}", BLANK: r"[^\S\r\n]", LINE_END: r"[\r\n]"}
    characters = [chr(code) for code in range(CODE_POINTS) if code not in SURROGATES]
    same = pre_tokenizers.Split(Regex("|".join(f"{p}+" for p in patterns.values())), "isolated")
    runs = [
        run
        for first in range(0, len(characters), ASKED)
        for run, _ in same.pre_tokenize_str("".join(characters[first : first + ASKED]))
    ]
    heads = "".join(run[0] for run in runs)
    of_runs = np.full(len(runs), OTHER, np.uint8)
    for kind, pattern in patterns.items():
        these = pre_tokenizers.Split(Regex(f"{pattern}+"), "removed", invert=True)
        for _, (first, behind) in these.pre_tokenize_str(heads):
            of_runs[first:behind] = kind
    kinds = np.repeat(of_runs, [len(run) for run in runs])
    return np.insert(kinds, SURROGATES.start, np.full(len(SURROGATES), OTHER, np.uint8))
