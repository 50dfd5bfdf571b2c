"""Lines of plain or compressed files: what is damaged or too long costs the lines it touches, never the file.

bz2 checks a block before it gives it out; gzip and zstd check a part at its end, when its lines are read already.
"""

import bz2
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, NamedTuple

import zstandard

Skip = Callable[[str, int], None]  # reason, offset
# Most that a decoder gives out at once, so that a bomb meets the bound on lines before it fills the memory. gzip
# inflates 1032 to 1, and a zstd block of 128 KB can have 4 bytes: few bytes are fed to them at once.
PIECE_BYTES = 16 << 20
BLOCK_BYTES = 1 << 20
ZSTD_WINDOW = 1 << 27  # bytes of history; zstd's own limit without --long


class Codec(NamedTuple):
    """A compression: how its parts begin, what decodes one of them, what that raises, how much it is fed at once."""

    name: str
    magic: bytes
    decoder: Callable[[], Any]
    error: type[Exception]
    feed_bytes: int


class Damage(NamedTuple):
    """A stretch of a compressed file that cannot be read."""

    reason: str


GZIP_WINDOW = 31  # zlib's word for: gzip header and trailer, window of 32 KB


class _Bz2:
    """A decoder of bz2 that keeps to PIECE_BYTES: 40 bytes can inflate to 900 KB, and no feed is small enough."""

    def __init__(self) -> None:
        self._decoder = bz2.BZ2Decompressor()

    def decompress(self, block: bytes) -> bytes:
        """What ``block`` inflates to, or the beginning of it."""
        return self._decoder.decompress(block, PIECE_BYTES)

    @property
    def eof(self) -> bool:
        """The stream has ended."""
        return self._decoder.eof

    @property
    def unused_data(self) -> bytes:
        """What lies behind the end of the stream."""
        return self._decoder.unused_data

    @property
    def has_more(self) -> bool:
        """There is more of what was fed already."""
        return not (self._decoder.eof or self._decoder.needs_input)


CODECS = {
    ".gz": Codec(
        "gzip",
        b"\x1f\x8b\x08",
        lambda: zlib.decompressobj(GZIP_WINDOW),
        zlib.error,
        PIECE_BYTES // 1032,
    ),
    ".zst": Codec(
        "zstd",
        b"\x28\xb5\x2f\xfd",
        lambda: zstandard.ZstdDecompressor(max_window_size=ZSTD_WINDOW).decompressobj(),
        zstandard.ZstdError,
        PIECE_BYTES // (128 << 10) * 4,
    ),
    # a stream's header and the magic of its first block: ten bytes that text does not hold by chance
    ".bz2": Codec("bz2", b"BZh91AY&SY", _Bz2, OSError, 1 << 14),
}


def codec_of(name: str) -> Codec | None:
    """The compression that a file's name ends with; None: it is plain."""
    return next((codec for suffix, codec in CODECS.items() if name.endswith(suffix)), None)


def lines(
    file: BinaryIO, codec: Codec | None, skip: Skip, max_bytes: int
) -> Iterator[tuple[int, bytes]]:
    """(offset, line without its newline) of every line that is whole and of at most ``max_bytes``.

    Offsets count inflated bytes. ``skip`` is told of the damage and of lines that are too long. Memory is
    bounded by ``max_bytes`` and what a feed inflates to.
    """
    line = Line(skip, max_bytes)
    for part in inflated(file, codec):
        if isinstance(part, Damage):
            line.tear(part.reason)
            continue
        first, *others = part.split(b"\n")
        line.add(first)
        for other in others:
            yield from line.end()
            line.add(other)
    if line.size:
        yield from line.end()


class Line:
    """The line that is being read."""

    def __init__(self, skip: Skip, max_bytes: int) -> None:
        self.skip, self.max_bytes = skip, max_bytes
        self.offset = self.size = 0  # where it begins, and its bytes so far
        self.parts: list[bytes] = []
        self.torn = False  # a part of it is lost

    def add(self, part: bytes) -> None:
        """Append to it."""
        self.size += len(part)
        if self.size > self.max_bytes:
            self.tear("larger than max_record_mb")
        if not self.torn:
            self.parts.append(part)

    def tear(self, reason: str) -> None:
        """Its end is not known any more: what comes until the next newline belongs to it."""
        if not self.torn:
            self.skip(reason, self.offset)
        self.torn, self.parts = True, []

    def end(self) -> Iterator[tuple[int, bytes]]:
        """The line if it is whole; the next one begins."""
        if not self.torn:
            yield self.offset, b"".join(self.parts)
        self.offset += self.size + 1
        self.size, self.parts, self.torn = 0, [], False


def inflated(file: BinaryIO, codec: Codec | None) -> Iterator[bytes | Damage]:
    """The bytes of a file, piece by piece; behind damage it goes on at the next part (member, frame, stream)."""
    if codec is None:
        while block := file.read(BLOCK_BYTES):
            yield block
        return
    for _, piece in parts(file, codec):
        yield piece


def parts(file: BinaryIO, codec: Codec, start: int = 0) -> Iterator[tuple[int, bytes | Damage]]:
    """(offset in the file at which a part begins, a piece of what it inflates to), part after part.

    ``start`` above 0: from the first part that begins there or behind.
    """
    file.seek(start)
    stream = _Stream(codec, start)
    while block := file.read(codec.feed_bytes):
        yield from stream.feed(block)
    if stream.begun:
        yield stream.part, Damage(f"truncated {codec.name} stream")


class _Stream:
    """A compressed file that is fed from ``start`` on."""

    def __init__(self, codec: Codec, start: int) -> None:
        self.codec, self.decoder = codec, codec.decoder()
        self.buffer = self.given = b""  # what is to be decoded, what was last
        self.fed = self.part = start  # offsets: of what was not read yet, of the part at hand
        self.lost = start > 0  # looking for the next part
        self.begun = False  # a part was begun and not ended

    def feed(self, block: bytes) -> Iterator[tuple[int, bytes | Damage]]:
        """What ``block`` inflates to, and where it cannot be read."""
        self.buffer += block
        self.fed += len(block)
        while (self.buffer or self._has_more()) and (not self.lost or self._found()):
            self.given = self.buffer or self.given
            try:
                part = self.decoder.decompress(self.buffer)
            except (self.codec.error, EOFError):
                yield self.part, Damage(f"damaged {self.codec.name} stream")
                self.buffer, self.lost, self.begun = (
                    self.given[1:],
                    True,
                    False,
                )  # not that start again
                continue
            self.buffer, self.begun = self.decoder.unused_data, not self.decoder.eof
            if part:
                yield self.part, part
            if self.decoder.eof:
                self.decoder, self.part = self.codec.decoder(), self.fed - len(self.buffer)

    def _has_more(self) -> bool:
        return not self.lost and getattr(self.decoder, "has_more", False)

    def _found(self) -> bool:
        """Go to the start of the next part, if there is one in the buffer."""
        start = self.buffer.find(self.codec.magic)
        if start < 0:
            self.buffer = self.buffer[1 - len(self.codec.magic) :]
            return False
        self.buffer, self.decoder, self.lost = self.buffer[start:], self.codec.decoder(), False
        self.part = self.fed - len(self.buffer)
        return True
