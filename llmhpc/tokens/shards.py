"""Shards of documents: how documents/*.jsonl.zst are listed, read and written with every byte kept.

A hash of its id gives each document a place on a line from 0 to 1, once per purpose. Held-out
documents come from the low end of one line, the tokenizer's sample from the high end of the same
line: whatever the number of ranks and shards, the same documents are taken.
"""

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import zstandard

from llmhpc.errors import ArtifactError

BLOCK_BYTES = 1 << 17  # compressed; its text and lines are held at once
LEVEL = 3  # zstd's default: several hundred MB/s, and about 10% larger than level 10
HASH_BITS = 64
REPEAT = "#repeat"  # behind the id of a mixture's further copies of a document
SPLIT = b"split"  # the line that held-out documents and tokenizer samples are picked on

Numbered = tuple[Path, int, bytes]  # a shard, the number of a line in it, from 0, and the line
REASONS = ("dropped_because", "filter_reason")  # ours, with the value; datatrove's bare one

Progress = Callable[[float, float, str], None]  # done, total, unit


def silent(done: float, total: float, unit: str) -> None:
    """The progress of someone who does not want to know."""


def shard_paths(step: Path) -> list[Path]:
    """The document shards of a step's directory in order; ArtifactError if there is none."""
    shards = sorted((step / "documents").glob("*.jsonl.zst"))
    if not shards:
        raise ArtifactError(f"{step / 'documents'}: no *.jsonl.zst there, nothing to read")
    return shards


def read_lines(shards: list[Path], progress: Progress = silent) -> Iterator[bytes]:
    """Every line of the shards in order, without its newline.

    Says how far it is in MB of compressed input. Raises ArtifactError for a shard that is cut short:
    zstandard's own stream reader takes the end of such a file for the end of the data.
    """
    return (line for _, _, line in numbered_lines(shards, progress))


def numbered_lines(shards: list[Path], progress: Progress = silent) -> Iterator[Numbered]:
    """The same, each line with where it is."""
    total = sum(shard.stat().st_size for shard in shards)
    done = 0
    for shard in shards:
        number = 0
        for block, lines in _blocks(shard):
            for line in lines:
                yield shard, number, line
                number += 1
            done += block
            progress(done / 1e6, total / 1e6, "MB")


def _blocks(shard: Path) -> Iterator[tuple[int, list[bytes]]]:
    """(compressed bytes read, the lines that became whole by them) of one shard."""
    frame, rest = None, b""
    with shard.open("rb") as file:
        while block := file.read(BLOCK_BYTES):
            size, lines = len(block), []
            while block:
                frame = frame or zstandard.ZstdDecompressor().decompressobj()
                try:
                    *whole, rest = (rest + frame.decompress(block)).split(b"\n")
                except zstandard.ZstdError as error:
                    raise ArtifactError(
                        f"{shard}: not a zstd file, or a damaged one ({error})"
                    ) from error
                lines += whole
                block = frame.unused_data
                frame = None if frame.eof else frame
            yield size, lines
    if frame or rest:
        raise ArtifactError(f"{shard}: ends in the middle of a document; make its step again")


@contextmanager
def line_writer(path: Path) -> Iterator[Callable[[bytes], None]]:
    """Opens a .zst file and gives the function that appends a line to it.

    The file is a single frame: some readers, fsspec's among them, stop after the first.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with (
        path.open("wb") as file,
        zstandard.ZstdCompressor(level=LEVEL).stream_writer(file) as stream,
    ):

        def write(line: bytes) -> None:
            stream.write(line + b"\n")

        yield write


def parse(line: bytes) -> dict[str, Any]:
    """The document of a line; ArtifactError unless it is JSON with a text and an id."""
    try:
        document = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise ArtifactError(f"a line is not JSON ({error}): {line[:80]!r}") from error
    if not isinstance(document, dict) or not {"id", "text"} <= document.keys():
        raise ArtifactError(f"a line is not a document with id and text: {line[:80]!r}")
    return document


def reason_of(metadata: dict[str, Any]) -> str:
    """Why a removed document was dropped; empty if nothing says so."""
    return next((str(metadata[key]) for key in REASONS if metadata.get(key)), "")


def hash64(identity: str, purpose: bytes) -> int:
    """A 64-bit hash of a document's id, independent for each ``purpose`` (BLAKE2b, RFC 7693, keyed)."""
    digest = hashlib.blake2b(identity.encode(), digest_size=HASH_BITS // 8, key=purpose).digest()
    return int.from_bytes(digest, "big")


def place(identity: str) -> float:
    """Where a document, with all its copies, lies on the line from 0 to 1 that the splits are cut from."""
    return hash64(identity.partition(REPEAT)[0], SPLIT) / (1 << HASH_BITS)
