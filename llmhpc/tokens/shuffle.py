"""Shuffles documents by sorting them by a hash of seed and id: scatter into key ranges, gather each range.

The order depends on the seed and the documents only, not on how many shards or ranks there are or what
was done twice: cutting the key space elsewhere cuts the same sorted row elsewhere. Documents with one
id follow each other in the order of their bytes. A document that stays when a filter changes keeps its
place among the others.

Scatter rank r writes one file: runs of one zstd frame per range, and a JSON file of their offsets. That
is O(ranks) files where a file per pair of ranks would be O(ranks squared).
"""

from pathlib import Path
from typing import BinaryIO

import zstandard

from llmhpc.errors import ArtifactError, StageError
from llmhpc.files import read_json, write_json
from llmhpc.tokens.shards import HASH_BITS, Progress, hash64, line_writer, parse, read_lines, silent

RUN_BYTES = 256 << 20  # documents held in memory before a run of frames is written
FRAME_LEVEL = 1  # read once, then thrown away
KEY_CHARS = (
    HASH_BITS // 4
)  # the key leads its line as hex digits, so that sorting lines sorts by key


def scatter(
    shards: list[Path],
    frames: Path,
    parts: int,
    seed: int,
    progress: Progress = silent,
    run_bytes: int = RUN_BYTES,
) -> int:
    """Sort the documents of ``shards`` into ``parts`` ranges of their keys; returns how many they are.

    Writes ``frames`` and, beside it, ``frames``.json: for each run ``parts + 1`` offsets in bytes and
    the number of documents in each frame. Holds at most ``run_bytes`` and one document in memory.
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
            held += len(line)
            if held >= run_bytes:
                runs.append(_write_run(file, ranges))
                held = 0
        runs.append(_write_run(file, ranges))
    write_json(_offsets(frames), {"runs": runs})
    return total


def _write_run(file: BinaryIO, ranges: list[list[bytes]]) -> dict[str, list[int]]:
    """Write one frame per range, empty the ranges, and say where the frames are."""
    compressor = zstandard.ZstdCompressor(level=FRAME_LEVEL)
    offsets, documents = [file.tell()], []
    for lines in ranges:
        file.write(compressor.compress(b"\n".join(lines)))
        offsets.append(file.tell())
        documents.append(len(lines))
        lines.clear()
    return {"offsets": offsets, "documents": documents}


def gather(scattered: list[Path], part: int, shard: Path, progress: Progress = silent) -> int:
    """Write the documents of one range, from every scatter file, in order; returns how many they are.

    Holds one range in memory: all documents divided by the number of ranks.
    """
    lines: list[bytes] = []
    for number, frames in enumerate(scattered):
        lines += _read_part(frames, part)
        progress(number + 1, len(scattered), "scatter files")
    lines.sort()
    with line_writer(shard) as write:
        for line in lines:
            write(line[KEY_CHARS:])
    return len(lines)


def _read_part(frames: Path, part: int) -> list[bytes]:
    """The lines of range ``part`` in all runs of one scatter file, each led by its key."""
    index = read_json(_offsets(frames))
    if index is None:
        raise ArtifactError(f"{_offsets(frames)}: no such file, the scatter phase is not whole")
    lines: list[bytes] = []
    with frames.open("rb") as file:
        for run in index["runs"]:
            start, end = run["offsets"][part : part + 2]
            if not run["documents"][part]:
                continue
            file.seek(start)
            lines_of_run = (
                zstandard.ZstdDecompressor().decompress(file.read(end - start)).split(b"\n")
            )
            if len(lines_of_run) != run["documents"][part]:
                raise StageError(
                    f"{frames}: {len(lines_of_run)} documents in range {part}, "
                    f"{run['documents'][part]} were written"
                )
            lines += lines_of_run
    return lines


def _offsets(frames: Path) -> Path:
    return frames.with_name(frames.name + ".json")
