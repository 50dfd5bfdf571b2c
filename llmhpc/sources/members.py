"""The gzip members of a WARC file one by one: a damaged member costs itself, reading goes on at the next one.

A sound member that is held whole is inflated at once by libdeflate, in a third of zlib's time: it ends where the next one
begins. Libdeflate does not tell what is wrong with a member, so all others go through ISA-L step by step.
"""

import struct
from collections.abc import Callable, Iterator
from typing import BinaryIO

from deflate import DeflateError, gzip_decompress
from isal import isal_zlib

MAGIC = b"\x1f\x8b\x08"
SIMPLE = MAGIC + b"\0"  # of a member with a header of HEADER_BYTES
BLOCK_BYTES = 1 << 20
HEADER_BYTES, NO_TIME = 10, bytes(4)  # of a member that is SIMPLE; the time is in its bytes 4 to 7
TRAILER = struct.Struct("<II")  # a member's end: the checksum and the size of what it holds
LEAST_BYTES = 18  # of a member that holds nothing
STEP_BYTES = (
    1 << 14
)  # inflated at once: what is handed over beyond a member's end comes back as a copy
GZIP_WINDOW = 31  # zlib's word for: gzip header and trailer, window of 32 KB


def members(
    file: BinaryIO, skip: Callable[[str, int], None], max_bytes: int
) -> Iterator[tuple[int, bytes | bytearray]]:
    """(offset of the member in the file, its inflated bytes); ``skip`` is told why and where one is not whole.

    Memory is bounded by one member: compressed until it is known to be whole, inflated up to ``max_bytes``.
    """
    window = _Window(file)
    position = 0
    lost = False  # whether the bytes from position on are the rest of a member that was skipped
    while True:
        start: int | None = position
        found = window.sound(position, max_bytes)
        if found is None:
            start = window.find(position)
            if not lost and position < (window.end() if start is None else start):
                skip("no gzip member", position)
            if start is None:
                return
            found = window.sound(start, max_bytes) or _inflate(window, start, skip, max_bytes)
        whole, position = found
        lost = whole is None
        if start is not None and whole is not None:
            yield start, whole


class _Window:
    """The part of a file that is held in memory, addressed by offsets in the file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._held = b""
        self._base = 0  # offset of the first byte held

    def find(self, start: int) -> int | None:
        """The offset of the first MAGIC at or behind ``start``, reading on as it takes."""
        while True:
            found = self._held.find(MAGIC, start - self._base)
            if found >= 0:
                return self._base + found
            start = max(start, self.end() - len(MAGIC) + 1)  # it may lie across two blocks
            self.forget(start)
            if not self.read_on():
                return None

    def sound(self, start: int, max_bytes: int) -> tuple[bytes | bytearray | None, int] | None:
        """(the member at ``start``, the offset behind it) if it is held, whole, and the next follows at once.

        None tells nothing of it: it has to be looked at step by step.
        """
        self.forget(start)
        held, first = self._held, start - self._base
        header = held[first : first + HEADER_BYTES]
        # the longer what is looked for, the faster: where no time is noted members begin with the same bytes
        stop = held.find(header if header[4:8] == NO_TIME else MAGIC, first + LEAST_BYTES)
        if stop < 0 or not header.startswith(SIMPLE):
            return None
        trailer = held[stop - TRAILER.size : stop]
        checksum, size = TRAILER.unpack(trailer)
        if size > max_bytes:
            return None
        try:
            whole = gzip_decompress(memoryview(held)[first:stop], size or 1)
        except DeflateError:  # damaged, or the bytes of a header stood inside of it
            return None
        # a member that ended before the next one began has another trailer, or the same one before
        right = len(whole) == size and isal_zlib.crc32(whole) == checksum
        right = right and held.rfind(trailer, first, stop - 1) < 0
        return (whole, self._base + stop) if right else None

    def end(self) -> int:
        """The offset behind the last byte held."""
        return self._base + len(self._held)

    def forget(self, start: int) -> None:
        """Let go of what lies before ``start`` once it is a block: cutting for each member would copy it all."""
        if start - self._base >= BLOCK_BYTES:
            self._held, self._base = self._held[start - self._base :], start

    def read_on(self) -> bool:
        """Hold another block; False at the end of the file."""
        block = self._file.read(BLOCK_BYTES)
        self._held += block
        return bool(block)

    def __getitem__(self, part: slice) -> bytes:
        return self._held[part.start - self._base : part.stop - self._base]


def _inflate(
    window: _Window, start: int, skip: Callable[[str, int], None], max_bytes: int
) -> tuple[bytes | None, int]:
    """(the member at ``start`` or None, the offset at which to look for the next one)."""
    inflater, parts, size, position = isal_zlib.decompressobj(GZIP_WINDOW), [], 0, start
    while not inflater.eof:
        if position >= window.end() and not window.read_on():
            skip("truncated gzip member", start)
            return None, start + 1
        stop = min(window.end(), position + STEP_BYTES)
        try:
            part = inflater.decompress(window[position:stop], max_bytes - size + 1)
        except isal_zlib.error:  # type: ignore[misc]  # its stubs have a plain object
            skip("damaged gzip member", start)
            return None, start + 1
        size += len(part)
        if size > max_bytes:
            skip("larger than max_record_mb", start)
            return None, start + 1
        parts.append(part)
        position = stop - len(inflater.unconsumed_tail)
    return parts[0] if len(parts) == 1 else b"".join(parts), position - len(inflater.unused_data)
