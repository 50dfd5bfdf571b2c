"""WARC files, with the HTML that was served, or WET files, with the text that somebody took out of it."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from llmhpc.sources import NO_DATE, Page, Reading, Text, deal
from llmhpc.sources.files import Files, find

if TYPE_CHECKING:
    from llmhpc.sources.warc_records import Record

HTML_TYPES = {"text/html", "application/xhtml+xml"}
PROGRESS_BYTES = 1 << 20  # between two words of how far it is
TOO_LARGE = "larger than max_record_mb"


class Format(Enum):
    """What the records hold: ``warc`` responses with HTML, ``wet`` conversions with text."""

    warc = "warc"
    wet = "wet"


@dataclass(kw_only=True, slots=True)
class Config(Files):
    """Which files."""

    kind: str = "warc"
    format: Format = Format.warc

    def has_text(self) -> bool:
        """True for WET files."""
        return self.format is Format.wet


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The HTML responses of one rank's files. Raises StageError if an address has no file."""
    yield from read_pages(deal(find(cfg.paths), reading, "WARC files"), cfg.max_bytes(), reading)


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The texts of one rank's WET files. Raises StageError if an address has no file."""
    yield from read_texts(deal(find(cfg.paths), reading, "WET files"), cfg.max_bytes(), reading)


def read_pages(files: list[str], max_bytes: int, reading: Reading) -> Iterator[Page]:
    """The HTML responses of ``files``, any address that fsspec opens, in order."""
    for address, offset, record in _records(files, max_bytes, reading):
        page = _page(record, address, offset, max_bytes, reading)
        if page is not None:
            yield page


def read_texts(files: list[str], max_bytes: int, reading: Reading) -> Iterator[Text]:
    """The texts of the conversion records of ``files``, in order."""
    for address, offset, record in _records(files, max_bytes, reading):
        if record.kind != "conversion":
            reading.skipped[f"{record.kind} record"] += 1
            continue
        text = record.body.decode("utf-8", "replace")
        headers = record.headers
        url, languages = (
            headers.get(f"warc-{name}") for name in ("target-uri", "identified-content-language")
        )
        if not url or not text.strip():
            reading.skipped["no address" if not url else "no text"] += 1
            continue
        yield Text(
            id=(headers.get("warc-record-id") or url).strip("<>"),
            text=text,
            file=address,
            offset=offset,
            metadata={"url": url, "date": headers.get("warc-date") or NO_DATE}
            | ({"languages": languages} if languages else {}),
        )


def _records(
    files: list[str], max_bytes: int, reading: Reading
) -> Iterator[tuple[str, int, "Record"]]:
    """(address, offset, record); one gzip member is one record, if it is compressed, and a bad one costs itself."""
    import fsspec

    from llmhpc.sources.members import members
    from llmhpc.sources.uncompressed import BEGIN, uncompressed
    from llmhpc.sources.warc_records import BadRecord, records

    for number, address in enumerate(files):
        fs, path = fsspec.core.url_to_fs(address)
        total = fs.size(path) or 1

        def skip(reason: str, offset: int, address: str = address) -> None:
            reading.skip(reason, address, offset)

        with fs.open(path, "rb") as file:
            is_plain = file.read(len(BEGIN)) == BEGIN
            file.seek(0)
            told = 0
            for offset, raw in (uncompressed if is_plain else members)(file, skip, max_bytes):
                if offset >= told:
                    reading.progress(number + min(1.0, offset / total), len(files), "files")
                    told = offset + PROGRESS_BYTES
                try:
                    for record in records(raw, max_bytes):
                        yield address, offset, record
                except BadRecord:
                    skip("bad WARC header", offset)


def _page(
    record: "Record", address: str, offset: int, max_bytes: int, reading: Reading
) -> Page | None:
    """The page of a response record; None, and counted, if it is no HTML page that was served."""
    if record.kind != "response":
        reading.skipped[f"{record.kind} record"] += 1
        return None
    if not record.status.startswith("2"):
        reading.skipped[f"HTTP status {record.status or 'missing'}"] += 1
        return None
    content_type = record.http.get("content-type") or ""
    identified = record.headers.get("warc-identified-payload-type")
    if (identified or content_type.split(";")[0].strip().lower()) not in HTML_TYPES:
        reading.skipped["not HTML"] += 1
        return None
    if len(record.body) > max_bytes:
        reading.skip(TOO_LARGE, address, offset)
        return None
    url = record.url
    if not url or not record.body or record.body.isspace():
        reading.skipped["no address" if not url else "no body"] += 1
        return None
    return Page(
        url=url,
        body=record.body,
        date=record.headers.get("warc-date") or NO_DATE,
        content_type=content_type or "text/html",
        file=address,
        offset=offset,
    )
