"""WARC records out of their gzip members: plainly written ones are cut at their headers, all others go to warcio.

Plain means what almost every record of a crawl is: headers in ASCII, each on one line, a length that fits, and a body in no
transfer or content encoding.
"""

import io
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, NamedTuple

from llmhpc.sources.headers import FIELDS, Headers

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord

HEAD_END = b"\r\n\r\n"
WARC = re.compile(rb"WARC/1\.[ -~]*(" + FIELDS + rb"\r\n)\r\n")
HTTP = re.compile(rb"HTTP/1\.[!-~]* ([0-9]+) [ -~]*(" + FIELDS + rb"\r\n)\r\n")
KIND = b"\r\nWARC-Type: "
NEXT = HEAD_END + b"WARC/1."  # what a member of several records has
NONE: Mapping[str, str] = MappingProxyType({})
RESPONSE, RESPONSE_LINE = "response", b"response\r\n"
WITH_BODY = (RESPONSE, "conversion")
REFUSALS = (
    ValueError,
    EOFError,
    AttributeError,
)  # the last: warcio's of a response without address
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
    url: str | None = None


OTHERS = {kind: Record(kind) for kind in ("request", "metadata", "warcinfo", "revisit")}


class BadRecord(Exception):
    """A member that holds no WARC record."""


def records(raw: bytes | bytearray, max_bytes: int) -> Iterable[Record]:
    """The records of one inflated member, which is one in files that keep to the standard. Raises BadRecord.

    A body that an encoding of its own inflates is cut one byte beyond ``max_bytes``.
    """
    record = plain(raw)
    return (record,) if record is not None else any_record(raw, max_bytes)


def plain(raw: bytes | bytearray) -> Record | None:
    """The record, or None if it is not plainly written."""
    found, end = raw.find(KIND), raw.find(HEAD_END)
    if not 0 <= found <= end or not raw.startswith(b"WARC/1."):
        return None
    start = found + len(KIND)
    stop = raw.find(b"\r\n", start)
    kind = (
        RESPONSE
        if raw.startswith(RESPONSE_LINE, start)
        else raw[start:stop].decode("ascii", "replace")
    )
    if kind in OTHERS:
        return OTHERS[kind] if stop < end and NEXT not in raw else None
    return _with_body(kind, raw)


def _with_body(kind: str, raw: bytes | bytearray) -> Record | None:
    head = WARC.match(raw)
    if not head:
        return None
    headers, begin, stop = Headers(head[1]), head.end(), len(raw) - len(HEAD_END)
    if not headers.is_value("content-length", str(stop - begin)) or not raw.endswith(HEAD_END):
        return None
    url = headers.get("warc-target-uri")
    if url and " " in url:  # warcio puts %20
        return None
    if kind == "conversion":
        return Record(kind, headers, body=bytes(memoryview(raw)[begin:stop]), url=url)
    if kind != RESPONSE or not url or not url.startswith(PROTOCOLS):
        return None
    served = HTTP.match(raw, begin, stop)
    if not served:
        return None
    http = Headers(served[2])
    if "content-encoding" in http or "transfer-encoding" in http:
        return None
    body = bytes(memoryview(raw)[served.end() : stop])
    return Record(kind, headers, served[1].decode(), http, body, url)


def any_record(raw: bytes | bytearray, max_bytes: int) -> Iterator[Record]:
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
            yield Record(
                record.rec_type, headers, status, named, body, headers.get("warc-target-uri")
            )
    except (ArchiveLoadFailed, StatusAndHeadersParserException, *REFUSALS) as error:
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
