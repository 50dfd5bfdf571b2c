"""What a tokenizer shows before there is a model: its tokens, how it packs which texts, what may become a glitch.

Glitch tokens are found in a model's embeddings (Land and Bartolo, arXiv 2405.05417). What makes them is seen here
already: tokens that no text is encoded to, that training will hardly meet but as parts of other tokens (Chizhov et
al., arXiv 2409.04599), or that one single document put there.
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import orjson
from tokenizers import Tokenizer

from llmhpc.tokens.bpe import byte_letters
from llmhpc.tokens.ids import Ids
from llmhpc.tokens.reader import DTYPES
from llmhpc.tokens.sample import Sample
from llmhpc.tokens.shards import HASH_BITS, Progress, hash64, silent

SHOWN = 20  # tokens or groups of a list, at most
BATCH = 256  # documents encoded at a time
COUNTED_BYTES = 100_000_000  # of a sample at most, which takes one core about a minute
INSIDE_OTHERS = 0.01  # of the times a token is made it stays as it is less often than that
LONGEST_RUN = 128  # of blanks looked for
NUMBER = re.compile("[0-9]+")
BYTE = re.compile("<0x([0-9A-F]{2})>")
NUMBERS = (
    "7",
    "42",
    "365",
    "2024",
    "65536",
    "1234567",
    "3.14159",
    "2024-02-29",
    "0x7fff",
    "1,000,000",
)
KINDS = ("special", "byte", "number", "blanks", LEARNED := "learned")


def inspect(
    tokenizer: Tokenizer, train: Sample, heldout: Sample, out: Path, progress: Progress = silent
) -> dict[str, Any]:
    """What inspection.json has; ``out``/vocabulary.parquet has a row for every token."""
    tokenizer.encode_special_tokens = True
    tokens = Tokens(tokenizer)
    seen, measured = Count(tokens, train, progress), Count(tokens, heldout, progress)
    columns = {
        "seen": seen.tokens,
        "made": tokens.made(seen.tokens),
        "documents": seen.documents,
        "heldout": measured.tokens,
    }
    _write(tokens, columns, out / "vocabulary.parquet")

    def listed(which: np.ndarray, order: np.ndarray) -> dict[str, Any]:
        """How many tokens these are, and the first of them in ascending order."""
        numbers = np.flatnonzero(which)
        first = numbers[np.argsort(order[numbers], kind="stable")][:SHOWN].tolist()
        shown = [
            {"id": n, "token": tokens.shown(n)}
            | {name: int(column[n]) for name, column in columns.items()}
            for n in first
        ]
        return {"count": len(numbers), "first": shown}

    kinds, learned = tokens.kinds, tokens.kinds == LEARNED
    alone = seen.tokens / np.maximum(columns["made"], 1)  # share that is not merged further
    return {
        "kinds": {kind: int((kinds == kind).sum()) for kind in KINDS},
        "longest": listed(learned, -tokens.lengths),
        "last": listed(learned, -np.arange(len(kinds))),
        "sample": seen.sums(),
        "heldout": measured.sums(),
        "groups": measured.groups(),
        "numbers": _numbers(tokens, measured),
        "blanks": _blanks(tokens, measured),
        "unused": {
            "sample": listed(learned & (seen.tokens == 0), -columns["made"]),
            "heldout": listed(learned & (measured.tokens == 0), -seen.tokens),
        },
        "glitches": {
            "unreachable": listed(tokens.unreachable(), seen.tokens),
            "inside_others": listed(learned & (alone < INSIDE_OTHERS), alone),
            "one_document": listed(learned & (seen.documents == 1), -seen.tokens),
            "parts_of_characters": listed(learned & tokens.partial, seen.tokens),
        },
    }


class Tokens:
    """The tokens of a vocabulary by id: what bytes they stand for, and what kind they are."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.ids = Ids(tokenizer, DTYPES["uint32"])
        self._model = json.loads(tokenizer.to_str())
        special = {token["content"] for token in self._model["added_tokens"]}
        ids = tokenizer.get_vocab()
        by_id = {number: name for name, number in ids.items()}
        names = [by_id.get(number, "") for number in range(max(by_id) + 1)]
        bytes_of = _of_letters if byte_letters().keys() <= ids.keys() else _of_characters
        self.bytes = [name.encode() if name in special else bytes_of(name) for name in names]
        self.lengths = np.array([len(token) for token in self.bytes])
        self.partial = np.array([not _is_text(token) for token in self.bytes])
        self.kinds = np.array(
            [
                "special" if name in special else _kind(token)
                for name, token in zip(names, self.bytes, strict=True)
            ]
        )

    def texts(self, text: str) -> list[str]:
        """The tokens of a text, for a person."""
        return [self.shown(n) for n in self.tokenizer.encode(text, add_special_tokens=False).ids]

    def shown(self, number: int) -> str:
        """A token for a person; bytes that are no characters as \\xNN."""
        return self.bytes[number].decode("utf-8", "backslashreplace")

    def made(self, seen: np.ndarray) -> np.ndarray:
        """How often each token was made on the way: seen as it is, or merged further into what was seen."""
        made, ids = seen.copy(), self.tokenizer.get_vocab()
        merges = self._model["model"].get("merges", [])
        parts = {ids[a + b]: (ids[a], ids[b]) for a, b in reversed(merges)}
        for number in sorted(parts, reverse=True):
            for part in parts[number]:
                made[part] += made[number]
        return made

    def unreachable(self) -> np.ndarray:
        """Which are encoded to others, if their own text is; parts of characters are no text."""
        which = np.zeros(len(self.bytes), bool)
        asked = np.flatnonzero(~self.partial & (self.kinds != "special"))
        texts = [self.bytes[n].decode() for n in asked]
        found = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        which[asked] = [e.ids != [n] for n, e in zip(asked, found, strict=True)]
        return which


class Count:
    """How often each token is there in documents, in how many of them, and what texts take how many tokens."""

    def __init__(self, tokens: Tokens, sample: Sample, progress: Progress) -> None:
        size = len(tokens.bytes)
        self.tokens, self.documents = np.zeros(size, np.int64), np.zeros(size, np.int64)
        self.read = self.bytes = self.characters = self.words = self.numbers = self.digits = 0
        self._groups: dict[str, dict[str, list[int]]] = defaultdict(dict)
        share = COUNTED_BYTES / max(1, sample.size_bytes) * (1 << HASH_BITS)
        rows = [row for row in sample.rows() if hash64(row[1], b"count") < share]
        for first in range(0, len(rows), BATCH):
            batch = [orjson.loads(line) for _, _, _, line in rows[first : first + BATCH]]
            encoded = tokens.ids.encode([row["text"] for row in batch], 0)
            for row, ids in zip(batch, encoded, strict=True):
                self._add(row, ids[:-1])  # without the end of the document
            progress(min(first + BATCH, len(rows)), len(rows), "documents counted")

    def _add(self, row: dict[str, Any], ids: np.ndarray) -> None:
        there, times = np.unique(ids, return_counts=True)
        self.tokens[there] += times
        self.documents[there] += 1
        text, size = row["text"], len(row["text"].encode())
        self.read += 1
        self.bytes += size
        self.characters += len(text)
        self.words += len(text.split())
        numbers = NUMBER.findall(text)
        self.numbers += len(numbers)
        self.digits += sum(map(len, numbers))
        for name, value in row["metadata"].items():
            group = self._groups[name].setdefault(value, [0, 0, 0])
            for n, more in enumerate((1, size, len(ids))):
                group[n] += more

    def sums(self) -> dict[str, Any]:
        """Sizes, and how they compare."""
        tokens = int(self.tokens.sum())
        return {
            "documents": self.read,
            "bytes": self.bytes,
            "tokens": tokens,
            "bytes_per_token": _ratio(self.bytes, tokens),
            "characters_per_token": _ratio(self.characters, tokens),
            "tokens_per_word": _ratio(tokens, self.words),
        }

    def groups(self) -> dict[str, list[dict[str, Any]]]:
        """Field of the metadata -> its values with the most text."""
        return {
            name: [
                {
                    "group": group,
                    "documents": n,
                    "bytes": size,
                    "bytes_per_token": _ratio(size, tokens),
                }
                for group, (n, size, tokens) in sorted(
                    groups.items(), key=lambda item: (-item[1][1], item[0])
                )[:SHOWN]
            ]
            for name, groups in sorted(self._groups.items())
        }


def _numbers(tokens: Tokens, measured: Count) -> dict[str, Any]:
    """How numbers are cut, and how many digits a token of digits holds in held-out text."""
    of_digits = [token.isdigit() for token in tokens.bytes]  # of bytes: ASCII only
    return {
        "examples": {text: tokens.texts(text) for text in NUMBERS},
        "whole_below_1000": sum(len(tokens.texts(str(n))) == 1 for n in range(1000)),
        "heldout_numbers": measured.numbers,
        "tokens_per_number": _ratio(int(measured.tokens[of_digits].sum()), measured.numbers),
        "digits_per_token": _ratio(measured.digits, int(measured.tokens[of_digits].sum())),
    }


def _blanks(tokens: Tokens, measured: Count) -> dict[str, Any]:
    """Which runs of blanks are one token, and how many of all tokens are nothing but blanks and line ends."""
    runs = [n for n in range(1, LONGEST_RUN + 1) if len(tokens.texts(" " * n)) == 1]
    empty = [token.isspace() for token in tokens.bytes]
    share = _ratio(int(measured.tokens[empty].sum()), int(measured.tokens.sum()))
    return {"runs": runs, "share_of_heldout_tokens": share}


def _write(tokens: Tokens, columns: dict[str, np.ndarray], path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    texts = [tokens.shown(n) for n in range(len(tokens.bytes))]
    about = {"id": range(len(texts)), "token": texts, "bytes": tokens.lengths, "kind": tokens.kinds}
    pq.write_table(pa.table(about | columns), path)


def _of_letters(name: str) -> bytes:
    """What a token of a byte-level tokenizer stands for."""
    letters = byte_letters()
    return bytes(letters[c] for c in name)


def _of_characters(name: str) -> bytes:
    """The same of a tokenizer that has characters, bytes such as <0x0A> where it lacks one, and a sign for a blank."""
    if found := BYTE.fullmatch(name):
        return bytes.fromhex(found.group(1))
    return name.replace("\u2581", " ").encode()


def _kind(token: bytes) -> str:
    if len(token) == 1:
        return "byte"
    if token.isdigit():
        return "number"
    return LEARNED if token.strip(b" ") else "blanks"


def _is_text(token: bytes) -> bool:
    try:
        token.decode()
    except UnicodeDecodeError:
        return False
    return True


def _ratio(part: float, whole: float) -> float | None:
    return round(part / whole, 4) if whole else None
