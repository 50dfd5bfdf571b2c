"""Writing pages as WARC response records: the same pages give the same bytes."""

from collections.abc import Iterable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

from llmhpc.sources import Page

if TYPE_CHECKING:
    from warcio.recordloader import ArcWarcRecord
    from warcio.warcwriter import WARCWriter

FILE_HEADER = "WARC-Source-File"
OFFSET_HEADER = "WARC-Source-Offset"


def write(pages: Iterable[Page], path: Path) -> dict[str, int]:
    """Write one gzip member per page; returns how many pages and how many bytes of HTML."""
    from warcio.warcwriter import WARCWriter

    counts = {"pages": 0, "html_bytes": 0}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        writer = WARCWriter(file, gzip=True)
        for page in pages:
            writer.write_record(_record(writer, page))
            counts["pages"] += 1
            counts["html_bytes"] += len(page.body)
    return counts


def record_id(page: Page) -> str:
    """An identifier that depends on the page's address and date alone, not on where it was read."""
    return f"<urn:uuid:{uuid5(NAMESPACE_URL, f'{page.url} {page.date}')}>"


def _record(writer: "WARCWriter", page: Page) -> "ArcWarcRecord":
    from warcio.statusandheaders import StatusAndHeaders

    http = StatusAndHeaders("200 OK", [("Content-Type", page.content_type)], protocol="HTTP/1.1")
    headers = {
        "WARC-Record-ID": record_id(page),
        "WARC-Date": page.date,
        "WARC-Identified-Payload-Type": "text/html",
        FILE_HEADER: page.file,
        OFFSET_HEADER: str(page.offset),
    }
    return writer.create_warc_record(
        page.url,
        "response",
        payload=BytesIO(page.body),
        length=len(page.body),
        http_headers=http,
        warc_headers_dict=headers,
    )
