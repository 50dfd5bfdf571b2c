"""WARC records out of their gzip members: plainly written ones are cut at their headers, all others go to warcio.

Plain means what almost every record of a crawl is: headers in ASCII, each on one line, a length that fits, and a body in no
transfer or content encoding.
"""

import io
import re
import zlib
from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

# a first line, then lines of a name, a colon, a blank and a value that neither begins nor ends with a blank
PLAIN = re.compile(rb"[ -~]*(?:\r\n[!-9;-~]+: [!-~](?:[ -~]*[!-~])?)*")
OTHER_KIND = re.compile(rb"\r\nWARC-Type: (request|metadata|warcinfo|revisit)\r\n")
NONE: Mapping[str, str] = MappingProxyType({})
HEAD_END = b"\r\n\r\n"
ENCODINGS = {"transfer-encoding", "content-encoding"}
WITH_BODY = ("response", "conversion")
PROTOCOLS = ("http:", "https:")  # of whose addresses warcio parses a response


class Record(NamedTuple):
    """One WARC record; header names are in lower case, of repeated headers the first counts.

    Of other kinds than a response and a conversion there is the kind alone.
    """

    kind: str  # WARC-Type
    headers: Mapping[str, str] = NONE
    status: str = ""  # of a response: the code
    http: Mapping[str, str] = NONE
    body: bytes = b""


class BadRecord(Exception):
    """A member that holds no WARC record."""


def records(raw: bytes, max_bytes: int) -> Iterator[Record]:
    """The records of one inflated member, which is one in files that keep to the standard. Raises BadRecord.

    A body that an encoding of its own inflates is cut one byte beyond ``max_bytes``.
    """
    record = plain(raw)
    if record is not None:
        yield record
    else:
        yield from any_record(raw, max_bytes)


def plain(raw: bytes) -> Record | None:
    """The record, or None if it is not plainly written."""
    if not raw.startswith(b"WARC/1."):
        return None
    end = raw.find(HEAD_END)
    other = OTHER_KIND.search(raw, 0, max(0, end))
    if other:
        return Record(other[1].decode("ascii"))
    headers = _headers(raw[:end]) if end >= 0 else None
    if headers is None:
        return None
    length = headers.get("content-length", "")
    body = end + len(HEAD_END)
    if not length.isdigit() or not (
        len(raw) == body + int(length) + len(HEAD_END) and raw.endswith(HEAD_END)
    ):
        return None
    kind, stop = headers.get("warc-type", ""), body + int(length)
    if not kind:
        return None
    if kind == "conversion":
        return Record(kind, headers, body=raw[body:stop])
    if not headers.get("warc-target-uri", "").startswith(PROTOCOLS):
        return None
    end = raw.find(HEAD_END, body, stop)
    http = _headers(raw[body:end]) if end >= 0 else None
    if http is None or ENCODINGS & http.keys() or not raw.startswith(b"HTTP/1.", body):
        return None
    status = raw[body : raw.find(b"\r\n", body)].decode("ascii").split(" ")
    if len(status) < 3 or not status[1].isdigit():
        return None
    return Record(kind, headers, status[1], http, raw[end + len(HEAD_END) : stop])


def _headers(head: bytes) -> dict[str, str] | None:
    """The headers behind the first line; None unless they are plain."""
    if not PLAIN.fullmatch(head):
        return None
    lines = head.decode("ascii").split("\r\n")
    pairs = [line.split(": ", 1) for line in reversed(lines[1:])]
    return {name.lower(): value for name, value in pairs}


def any_record(raw: bytes, max_bytes: int) -> Iterator[Record]:
    """The records of a member by warcio, the reference, with ``max_bytes`` as in ``records``. Raises BadRecord."""
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed
    from warcio.statusandheaders import StatusAndHeadersParserException

    try:
        for record in ArchiveIterator(io.BytesIO(raw)):
            headers = _lowered(record.rec_headers.headers)
            http = record.http_headers
            if record.rec_type not in WITH_BODY:
                yield Record(record.rec_type)
                continue
            body = _body(record, max_bytes)
            status = (http.get_statuscode() or "") if http else ""
            named = _lowered(http.headers if http else [])
            yield Record(record.rec_type, headers, status, named, body)
    except (ArchiveLoadFailed, StatusAndHeadersParserException, ValueError, EOFError) as error:
        raise BadRecord(str(error)) from error


def _body(record: "ArcWarcRecord", max_bytes: int) -> bytes:
    stream, body = record.content_stream(), b""
    try:
        while len(body) <= max_bytes and (part := stream.read(max_bytes + 1 - len(body))):
            body += part
    except (zlib.error, EOFError, ValueError):
        return b""
    return body


def _lowered(headers: list[tuple[str, str]]) -> dict[str, str]:
    return {name.lower(): value for name, value in reversed(headers)}
