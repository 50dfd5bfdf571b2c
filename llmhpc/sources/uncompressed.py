"""The records of a WARC file that is not compressed, one by one: a damaged one costs itself."""

import re
from collections.abc import Callable, Iterator
from typing import BinaryIO

BEGIN = b"WARC/1."
END = b"\r\n\r\n"  # of a record's head, and of the record
LENGTH = re.compile(rb"\r\ncontent-length:[ \t]*([0-9]{1,15})[ \t]*\r\n", re.IGNORECASE)
NEXT = re.compile(END + rb"(?=WARC/1\.[0-9]\r\n)")
NEXT_BYTES = 14  # of what NEXT looks at
BLOCK_BYTES = 1 << 20
HEAD_BYTES = 1 << 16  # no head is longer


def uncompressed(
    file: BinaryIO, skip: Callable[[str, int], None], max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """(offset of the record in the file, its bytes); ``skip`` is told why and where one is not whole.

    A record is whole if behind as many bytes as it names there are its end and another record, or the end of the file.
    Memory is bounded by ``max_bytes`` and two blocks.
    """
    held, base = b"", 0  # what is held of the file, and where that begins

    def hold(size: int) -> None:
        nonlocal held
        if len(held) < size:
            held += file.read(size - len(held) + BLOCK_BYTES)

    def forget(size: int) -> None:
        nonlocal held, base
        held, base = held[size:], base + size

    while True:
        hold(HEAD_BYTES)
        if not held:
            return
        size = _size(held)
        if 0 < size <= max_bytes:
            hold(size + len(BEGIN))
        if reason := _fault(held, size, max_bytes):
            skip(reason, base)
            while held and not (found := NEXT.search(held)):
                forget(max(1, len(held) - NEXT_BYTES))
                hold(HEAD_BYTES)
            size = found.end() if held and found else len(held)
        else:
            yield base, held[:size]
        forget(size)


def _size(held: bytes) -> int:
    """Bytes of the record that ``held`` begins with, its head and end included; 0 if that is no record."""
    end = held.find(END, 0, HEAD_BYTES)
    if end < 0 or not held.startswith(BEGIN):
        return 0
    length = LENGTH.search(held, 0, end + 2)
    return end + len(END) + int(length[1]) + len(END) if length else 0


def _fault(held: bytes, size: int, max_bytes: int) -> str:
    """What is wrong with the record that ``held`` begins with, or nothing."""
    if not size:
        return "bad WARC header"
    if size > max_bytes:
        return "larger than max_record_mb"
    if len(held) < size:
        return "truncated WARC record"
    behind = held[size : size + len(BEGIN)]
    return "" if held.endswith(END, 0, size) and behind in (b"", BEGIN) else "wrong WARC length"
