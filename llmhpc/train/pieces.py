"""What each process holds of the whole tensors, and files of it from which any other cut can be read.

A file is safetensors; the metadata of each say where its rows lie in the whole tensors. ``index.json`` has those of all
files of a checkpoint.
"""

import hashlib
import itertools
import json
import math
import os
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from safetensors import safe_open

from llmhpc.errors import ArtifactError
from llmhpc.files import read_json, write_json

INDEX = "index.json"
CUTS = "cuts"  # the one key of a file's metadata
DTYPES = {torch.float32: "F32", torch.bfloat16: "BF16", torch.float16: "F16"}
ALIGNMENT = 64  # of the numbers in a file, which others may map

Ranges = list[list[int]]  # per axis: first, and one behind the last


@dataclass(frozen=True)
class Cut:
    """A row of numbers: ``start`` to ``stop`` of a process's flattened tensor, which is made of blocks of the whole."""

    shape: list[int]  # of the whole tensor
    local: list[int]  # of the process's tensor
    blocks: list[tuple[Ranges, Ranges]]  # where in the process's tensor, where in the whole one
    start: int
    stop: int


class Piece(NamedTuple):
    """A row of numbers that a process holds under a key like exp_avg/layers.0.down.weight."""

    key: str
    cut: Cut
    row: torch.Tensor
    written: bool  # by this process; others have the same


class Tensor(NamedTuple):
    """A tensor of a file that is to be written."""

    name: str
    dtype: torch.dtype
    shape: list[int]

    @property
    def size_bytes(self) -> int:
        return math.prod(self.shape) * self.dtype.itemsize


def parameter_name(name: str) -> str:
    """A parameter's name without nanotron's wrappers of pipeline stages."""
    return ".".join(part for part in name.split(".") if part != "pp_block")


def cut_of(parameter: Any, start: int, stop: int) -> Cut:
    """Numbers ``start`` to ``stop`` of a parameter as nanotron has cut it."""
    local = list(parameter.shape)
    if not getattr(parameter, "is_sharded", False):
        everything = [[0, size] for size in local]
        return Cut(local, local, [(everything, everything)], start, stop)
    info = parameter.get_sharded_info()
    shape = [int(size) for size in info.unsharded_shape]
    blocks = [
        (_ranges(pair.local_slices, local), _ranges(pair.global_slices, shape))
        for pair in info.local_global_slices_pairs
    ]
    return Cut(shape, local, blocks, start, stop)


def _ranges(slices: Iterable[slice], shape: list[int]) -> Ranges:
    return [list(part.indices(size)[:2]) for part, size in zip(slices, shape, strict=True)]


def _slices(ranges: Ranges) -> tuple[slice, ...]:
    return tuple(slice(*both) for both in ranges)


def write(
    path: Path, pieces: list[Piece], row_of: Callable[[Piece], torch.Tensor]
) -> dict[str, Any]:
    """Write one file, row by row, and flush it to disk; returns its size in bytes and its sha256.

    The same rows are the same bytes, which the safetensors package does not promise: its metadata come in any order.
    """
    cuts = {piece.key: asdict(piece.cut) for piece in pieces}
    tensors = [Tensor(piece.key, piece.row.dtype, [piece.row.numel()]) for piece in pieces]
    metadata = {CUTS: json.dumps(cuts, sort_keys=True)}
    return write_tensors(path, tensors, metadata, map(row_of, pieces))


def write_tensors(
    path: Path, tensors: list[Tensor], metadata: dict[str, str], numbers: Iterable[torch.Tensor]
) -> dict[str, Any]:
    """Write a safetensors file and flush it to disk; ``numbers`` are asked for one after the other.

    Returns its size in bytes and its sha256.
    """
    header: dict[str, Any] = {"__metadata__": metadata}
    at = 0
    for tensor in tensors:
        offsets = [at, at := at + tensor.size_bytes]
        header[tensor.name] = {
            "dtype": DTYPES[tensor.dtype],
            "shape": tensor.shape,
            "data_offsets": offsets,
        }
    text = json.dumps(header, separators=(",", ":")).encode()
    text = text.ljust(-(-(len(text) + 8) // ALIGNMENT) * ALIGNMENT - 8)
    digest = hashlib.sha256()
    with path.open("wb") as file:
        head = memoryview(len(text).to_bytes(8, "little") + text)
        for part in itertools.chain([head], map(_bytes, numbers)):
            digest.update(part)
            file.write(part)
        file.flush()
        os.fsync(file.fileno())
        size = file.tell()
    return {"bytes": size, "sha256": digest.hexdigest()}


def _bytes(numbers: torch.Tensor) -> memoryview:
    return numbers.contiguous().flatten().view(torch.uint8).numpy().data


def write_index(folder: Path) -> None:
    """Gather from the files of ``folder`` what each holds."""
    index: dict[str, list[dict[str, Any]]] = {}
    for path in sorted(folder.glob("*.safetensors")):
        with safe_open(path, framework="pt") as file:
            cuts = json.loads(file.metadata()[CUTS])
        for key, cut in cuts.items():
            index.setdefault(key, []).append({"file": path.name, **cut})
    write_json(folder / INDEX, dict(sorted(index.items())))


class Shards:
    """The tensors of a checkpoint, read in any cut."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.index: dict[str, list[dict[str, Any]]] = read_json(folder / INDEX) or {}

    def __contains__(self, key: str) -> bool:
        return key in self.index

    def names(self, kind: str) -> list[str]:
        """The parameters that there is a ``kind`` of, like weight."""
        return [key.partition("/")[2] for key in self.index if key.startswith(f"{kind}/")]

    def shape(self, key: str) -> list[int]:
        """Of the whole tensor. Raises ArtifactError if there is none."""
        if key not in self.index:
            raise ArtifactError(f"{self.folder} has no {key}")
        return self.index[key][0]["shape"]

    def whole(self, key: str) -> torch.Tensor:
        """All of a tensor. Raises ArtifactError where a part of it is missing."""
        entries = self.index.get(key, [])
        if sum(entry["stop"] - entry["start"] for entry in entries) != math.prod(self.shape(key)):
            raise ArtifactError(f"{self.folder}: parts of {key} are missing")
        whole = self._row(entries[0]["file"], key).new_empty(self.shape(key))
        for local, blocks, rows in _same_place(entries):
            flat = whole.new_empty(math.prod(local))
            for entry in rows:
                flat[entry["start"] : entry["stop"]] = self._row(entry["file"], key)
            for here, there in blocks:
                whole[_slices(there)] = flat.view(local)[_slices(here)]
        return whole

    def row(self, key: str, cut: Cut) -> torch.Tensor:
        """The row of numbers that ``cut`` says."""
        wanted = json.loads(json.dumps(asdict(cut)))
        for entry in self.index.get(key, ()):
            if all(entry[field] == value for field, value in wanted.items()):
                return self._row(entry["file"], key)
        whole = self.whole(key)
        local = whole.new_empty(cut.local)
        for here, there in cut.blocks:
            local[_slices(here)] = whole[_slices(there)]
        return local.flatten()[cut.start : cut.stop]

    def _row(self, file: str, key: str) -> torch.Tensor:
        with safe_open(self.folder / file, framework="pt") as opened:
            return opened.get_tensor(key)


def _same_place(
    entries: list[dict[str, Any]],
) -> Iterable[tuple[list[int], list[Any], list[dict[str, Any]]]]:
    """Rows of the same process's tensor together: its shape, its blocks, and the rows."""
    places: dict[str, list[dict[str, Any]]] = {}
    for entry in entries:
        places.setdefault(json.dumps(entry["blocks"]), []).append(entry)
    for rows in places.values():
        yield rows[0]["local"], rows[0]["blocks"], rows
