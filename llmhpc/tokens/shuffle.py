"""Shuffles documents by sorting them by a hash of seed and id: scatter into key ranges, gather each range.

The order depends on the seed and the documents only, not on how many shards or ranks there are, how much
memory they have or what was done twice: cutting the key space elsewhere cuts the same sorted row elsewhere.
Documents with one id follow each other in the order of their bytes. A document that stays when a filter
changes keeps its place among the others.

Scatter rank r writes one file: runs of one sorted zstd frame per range, and a JSON file of their offsets.
That is O(ranks) files where a file per pair of ranks would be O(ranks squared). Gather merges frames.
"""

import heapq
import io
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import zstandard

from llmhpc.errors import ArtifactError, StageError
from llmhpc.files import read_json, write_json
from llmhpc.tokens.shards import HASH_BITS, Progress, hash64, line_writer, parse, read_lines, silent

MEMORY_BYTES = 256 << 20
LINE_BYTES = 100  # that a line costs beside its own bytes while it is held
FRAME_LEVEL = 1  # read once, then thrown away
FRAME_BYTES = 1 << 20  # of memory while a frame is read: zstd's window and buffers, and a document
MOST_FRAMES = 256  # that are open at once: the usual limit of open files is 1024
KEY_CHARS = (
    HASH_BITS // 4
)  # the key leads its line as hex digits, so that sorting lines sorts by key


class Frame(NamedTuple):
    """Sorted lines, each led by its key: one zstd frame at ``start`` of a file."""

    path: Path
    start: int
    documents: int


def scatter(
    shards: list[Path],
    frames: Path,
    parts: int,
    seed: int,
    progress: Progress = silent,
    memory_bytes: int = MEMORY_BYTES,
) -> int:
    """Sort the documents of ``shards`` into ``parts`` ranges of their keys; returns how many they are.

    Writes ``frames`` and, beside it, ``frames``.json: for each run ``parts`` offsets in bytes and
    numbers of documents. Holds ``memory_bytes`` and one document in memory.
    """
    purpose = f"shuffle {seed}".encode()
    ranges: list[list[bytes]] = [[] for _ in range(parts)]
    held, total, runs = 0, 0, []
    frames.parent.mkdir(parents=True, exist_ok=True)
    with frames.open("wb") as file:
        for line in read_lines(shards, progress):
            key = hash64(parse(line)["id"], purpose)
            ranges[key * parts >> HASH_BITS].append(b"%0*x" % (KEY_CHARS, key) + line)
            total += 1
            held += len(line) + LINE_BYTES
            if held >= memory_bytes:
                runs.append(_write_run(file, ranges))
                held = 0
        runs.append(_write_run(file, ranges))
    write_json(_offsets(frames), {"runs": runs})
    return total


def _write_run(file: BinaryIO, ranges: list[list[bytes]]) -> dict[str, list[int]]:
    """Write one frame per range, empty the ranges, and say where the frames are."""
    offsets, documents = [], []
    for lines in ranges:
        lines.sort()
        offsets.append(file.tell())
        documents.append(_write_frame(file, lines))
        lines.clear()
    return {"offsets": offsets, "documents": documents}


def _write_frame(file: BinaryIO, lines: Iterable[bytes]) -> int:
    compressor, documents = zstandard.ZstdCompressor(level=FRAME_LEVEL), 0
    with compressor.stream_writer(file, closefd=False) as stream:
        for documents, line in enumerate(lines, 1):  # noqa: B007 - their number is wanted
            stream.write(line + b"\n")
    return documents


def gather(
    scattered: list[Path],
    part: int,
    shard: Path,
    progress: Progress = silent,
    memory_bytes: int = MEMORY_BYTES,
) -> int:
    """Write the documents of one range, from every scatter file, in order; returns how many they are."""
    frames = [frame for path in scattered for frame in _frames(path, part)]
    total, done = sum(frame.documents for frame in frames), 0
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=shard.parent) as folder, line_writer(shard) as write:
        at_once = min(MOST_FRAMES, max(2, memory_bytes // FRAME_BYTES))
        for done, line in enumerate(_merged(frames, at_once, Path(folder)), 1):
            write(line[KEY_CHARS:])
            progress(done, total, "documents")
    return done


def _merged(frames: list[Frame], at_once: int, folder: Path) -> Iterator[bytes]:
    """The lines of sorted frames in order; more than ``at_once`` are first made fewer, in ``folder``."""
    while len(frames) > at_once:
        path = folder / f"{len(frames)}.frames"
        with path.open("wb") as file:
            groups = (frames[at : at + at_once] for at in range(0, len(frames), at_once))
            frames = [
                Frame(path, file.tell(), _write_frame(file, heapq.merge(*map(_lines, group))))
                for group in groups
            ]
    yield from heapq.merge(*map(_lines, frames))


def _frames(scattered: Path, part: int) -> Iterator[Frame]:
    """The frames of range ``part`` in one scatter file: one of each run that has documents of it."""
    index = read_json(_offsets(scattered))
    if index is None:
        raise ArtifactError(f"{_offsets(scattered)}: no such file, the scatter phase is not whole")
    for run in index["runs"]:
        if run["documents"][part]:
            yield Frame(scattered, run["offsets"][part], run["documents"][part])


def _lines(frame: Frame) -> Iterator[bytes]:
    with frame.path.open("rb", buffering=0) as file:
        file.seek(frame.start)
        stream = io.BufferedReader(zstandard.ZstdDecompressor().stream_reader(file))
        for number in range(frame.documents):  # behind them comes another frame
            if not (line := stream.readline()):
                raise StageError(
                    f"{frame.path}: {number} documents in a frame, {frame.documents} were written"
                )
            yield line[:-1]


def _offsets(frames: Path) -> Path:
    return frames.with_name(frames.name + ".json")
