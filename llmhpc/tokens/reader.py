"""Reads the token files of a sealed tokenize step, memory-mapped; numpy only, so that training can use it.

They are datatrove's: NAME.ds has the tokens in a row, little-endian, NAME.ds.index the end of each document in it,
uint64. datatrove's DatatroveFolderDataset and nanotron's Nanoset open a split's folder as it is.
"""

import bisect
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path

import numpy as np

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json

INDEX = "tokens.json"
DTYPES: dict[str, np.dtype] = {"uint16": np.dtype("<u2"), "uint32": np.dtype("<u4")}
ENDS_DTYPE = np.dtype("<u8")


class TokenFiles:
    """One split of a tokenize step, as one long row of tokens.

    ``folder`` is the step's directory, ``split`` is "train" or "heldout". Every document is followed by
    ``eos_id``. Raises ArtifactError if a file is missing or has not the size that tokens.json promises.
    """

    def __init__(self, folder: Path, split: str = "train") -> None:
        index = read_json(folder / INDEX)
        if index is None:
            raise ArtifactError(f"{folder / INDEX}: no such file; a sealed tokenize step has one")
        if split not in index or index.get("dtype") not in DTYPES:
            raise ArtifactError(
                f"{folder / INDEX}: needs a split {split!r} and a dtype of {list(DTYPES)}"
            )
        self.split = split
        self.vocab_size: int = index["vocab_size"]
        self.eos_id: int = index["eos_id"]
        self.dtype: np.dtype = DTYPES[index["dtype"]]
        self.tokens: int = index[split]["tokens"]
        self.documents: int = index[split]["documents"]
        self.names: list[str] = index[split]["files"]
        paths = [folder / name for name in self.names]
        self._maps = [_mapped(path, self.dtype) for path in paths]
        self._ends = [_mapped(index_of(path), ENDS_DTYPE) for path in paths]
        self._starts = [
            0,
            *accumulate(len(tokens) for tokens in self._maps),
        ]  # of files, then the total
        self._check(paths)

    def __len__(self) -> int:
        """Tokens of the split."""
        return self.tokens

    def window(self, start: int, length: int) -> np.ndarray:
        """int64 array of the ``length`` tokens from position ``start`` of the split, across files.

        Raises IndexError if the window does not lie within the split.
        """
        if start < 0 or length < 0 or start + length > self.tokens:
            raise IndexError(
                f"tokens {start} to {start + length}: the split {self.split!r} has {self.tokens}"
            )
        row = np.empty(length, dtype=np.int64)
        filled = 0
        number = bisect.bisect_right(self._starts, start) - 1
        while filled < length:
            offset = start + filled - self._starts[number]
            piece = self._maps[number][offset : offset + length - filled]
            row[filled : filled + len(piece)] = piece
            filled += len(piece)
            number += 1
        return row

    def place(self, position: int) -> tuple[str, int]:
        """The file that holds the token at ``position`` of the split, and the token's number in it."""
        number = bisect.bisect_right(self._starts, position) - 1
        return self.names[number], position - self._starts[number]

    def ends(self) -> np.ndarray:
        """uint64 array, shape (documents,): the position after each document's eos, rising."""
        shifted = [
            ends + np.uint64(start) for ends, start in zip(self._ends, self._starts, strict=False)
        ]
        return np.concatenate(shifted) if shifted else np.empty(0, dtype=ENDS_DTYPE)

    def files(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """For each file its tokens and, uint64, where its documents end in it; both memory-mapped."""
        return zip(self._maps, self._ends, strict=True)

    def _check(self, paths: list[Path]) -> None:
        for path, tokens, ends in zip(paths, self._maps, self._ends, strict=True):
            if not len(ends) or ends[-1] != len(tokens):
                told = ends[-1] if len(ends) else 0
                raise ArtifactError(
                    f"{path}: {len(tokens)} tokens, but its .index file says {told}"
                )
        if self._starts[-1] != self.tokens:
            raise ArtifactError(
                f"{self.split}: files hold {self._starts[-1]} tokens, {INDEX} says {self.tokens}"
            )
        if (documents := sum(map(len, self._ends))) != self.documents:
            raise ArtifactError(
                f"{self.split}: files hold {documents} documents, {INDEX} says {self.documents}"
            )


def index_of(path: Path) -> Path:
    """Where the ends of the documents of a token file are."""
    return path.with_name(f"{path.name}.index")


def _mapped(path: Path, dtype: np.dtype) -> np.ndarray:
    """The file as a read-only array that is read from disk as it is touched."""
    if not path.is_file():
        raise ArtifactError(f"{path}: no such file, though {INDEX} lists it")
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise ArtifactError(f"{path}: {size} bytes is no whole number of {dtype.name}")
    if size == 0:  # an empty file cannot be mapped
        return np.empty(0, dtype=dtype)
    return np.memmap(path, dtype=dtype, mode="r")
