"""What stands in a pruned fastText model's file and is not shown by its Python module: which n-grams were kept."""

import mmap
import struct
from dataclasses import dataclass
from pathlib import Path

# as Args, Dictionary and FastText of fastText 0.9.2 write them, in C++
FIRST = struct.Struct("<2i12id3i2q")
MAGIC, VERSION = 793712314, 12
ENTRY = struct.Struct("<qb")  # behind each word or label: how often it was met, and which it is
KEPT = struct.Struct("<2i")  # the hash of an n-gram, its row


@dataclass(slots=True)
class Header:
    """What stands before the matrices."""

    word_ngrams: int
    buckets: int  # hashes of n-grams
    shortest: int  # n-gram of characters
    longest: int
    words: dict[str, int]  # row in the input matrix
    label_counts: list[int]  # in training, falling
    kept: dict[int, int]  # hash of an n-gram -> row behind the words


def read_header(path: Path) -> Header | None:
    """The header of a pruned model, or None if it is another file."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        magic, version, *numbers = FIRST.unpack_from(content)
        word_ngrams, _, _, buckets, shortest, longest = numbers[5:11]
        entries, words, _, _, kept = numbers[13:]
        if (magic, version) != (MAGIC, VERSION) or kept < 0:  # -1: all of them
            return None
        names, counts, at = [], [], FIRST.size
        for _ in range(entries):
            end = content.find(b"\0", at)
            names.append(content[at:end].decode(errors="surrogateescape"))
            counts.append(ENTRY.unpack_from(content, end + 1)[0])
            at = end + 1 + ENTRY.size
        table = dict(KEPT.iter_unpack(content[at : at + kept * KEPT.size]))
    rows = {name: row for row, name in enumerate(names[:words])}
    return Header(word_ngrams, buckets, shortest, longest, rows, counts[words:], table)
