"""The gzip members of a WARC file one by one: a damaged member costs itself, reading goes on at the next one."""

import zlib
from collections.abc import Callable, Iterator
from typing import BinaryIO

MAGIC = b"\x1f\x8b\x08"
BLOCK_BYTES = 1 << 18
GZIP_WINDOW = 31  # zlib's word for: gzip header and trailer, window of 32 KB


def members(
    file: BinaryIO, skip: Callable[[str, int], None], max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """(offset of the member in the file, its inflated bytes); ``skip`` is told why and where one is not whole.

    Memory is bounded by one member: compressed until it is known to be whole, inflated up to ``max_bytes``.
    """
    buffer, base = b"", 0
    while True:
        start = buffer.find(MAGIC)
        if start < 0:
            buffer, base = buffer[-2:], base + max(0, len(buffer) - 2)
            if not (block := file.read(BLOCK_BYTES)):
                return
            buffer += block
            continue
        buffer, base = buffer[start:], base + start
        whole, used, buffer = _inflate(file, buffer, max_bytes)
        if isinstance(whole, bytes):
            yield base, whole
        else:
            skip(whole, base)
        buffer, base = buffer[used:], base + used


def _inflate(file: BinaryIO, buffer: bytes, max_bytes: int) -> tuple[bytes | str, int, bytes]:
    """(the member at the start of ``buffer`` or why not, bytes to pass over, the buffer with what was read on)."""
    inflater, parts, size, position = zlib.decompressobj(GZIP_WINDOW), [], 0, 0
    while not inflater.eof:
        if position >= len(buffer):
            if not (block := file.read(BLOCK_BYTES)):
                return "truncated gzip member", 1, buffer
            buffer += block
        chunk = buffer[position : position + BLOCK_BYTES]
        try:
            part = inflater.decompress(chunk, max_bytes - size + 1)
        except zlib.error:
            return "damaged gzip member", 1, buffer
        size += len(part)
        if size > max_bytes:
            return "larger than max_record_mb", 1, buffer
        parts.append(part)
        position += len(chunk) - len(inflater.unconsumed_tail)
    return b"".join(parts), position - len(inflater.unused_data), buffer
