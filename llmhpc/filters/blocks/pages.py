"""Pages of a collect step as datatrove documents: the HTML, and where it came from."""

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import cchardet
from datatrove.data import Document
from datatrove.pipeline.readers.base import BaseDiskReader

from llmhpc.errors import ArtifactError
from llmhpc.sources.members import members
from llmhpc.sources.warc_records import BadRecord, Record, records

NO_LIMIT = 1 << 40  # bytes: collect has bounded them
DECLARED = re.compile(rb"""charset\s*=\s*["']?\s*([A-Za-z0-9_.:-]+)""", re.IGNORECASE)
HEAD_BYTES = 2048  # where a page declares its charset (HTML standard: within the first 1024)


class Pages(BaseDiskReader):
    """Reads the WARC files of this rank: files ``rank``, ``rank + ranks``, ... in sorted order.

    A document's id is its WARC record's; ``metadata`` holds url and date, ``source`` and ``source_offset``
    (where the page was collected), ``warc`` and ``warc_offset`` (where it lies in the collect step).
    """

    name = "pages"

    def __init__(self, folder: Path, progress: Callable[[float, float, str], None]) -> None:
        super().__init__(str(folder), glob_pattern="*.warc.gz", add_file_path=False)
        self.progress = progress
        self.bytes_read = 0  # of HTML
        self._bytes_done = self._bytes_total = 0

    def read_files_shard(self, shard: list[str]) -> Iterator[Document]:
        """The documents of these files, one file after the other."""
        self._bytes_total = sum(self.data_folder.size(path) for path in shard)
        for path in shard:
            yield from self.read_file(path)
            self._bytes_done += self.data_folder.size(path)

    def read_file(self, filepath: str) -> Iterator[Document]:
        """The pages of one WARC file. Raises ArtifactError if it is damaged: it was whole when it was collected."""

        def damaged(reason: str, offset: int) -> None:
            raise ArtifactError(f"{filepath}: damaged near byte {offset}: {reason}")

        with self.data_folder.open(filepath, "rb", compression=None) as file:
            for offset, raw in members(file, damaged, NO_LIMIT):
                try:
                    for record in records(raw, NO_LIMIT):
                        self.bytes_read += len(record.body)
                        self.progress(self._bytes_done + offset, self._bytes_total, "bytes")
                        yield _document(record, filepath, offset)
                except BadRecord as error:
                    damaged(str(error), offset)


def _document(record: Record, warc: str, offset: int) -> Document:
    headers = record.headers
    return Document(
        text=decode(record.body, record.http.get("content-type", "")),
        id=headers["warc-record-id"].strip("<>"),
        metadata={
            "url": headers["warc-target-uri"],
            "date": headers["warc-date"],
            "source": headers.get("warc-source-file", ""),
            "source_offset": int(headers.get("warc-source-offset", 0)),
            "warc": warc,
            "warc_offset": offset,
        },
    )


def decode(body: bytes, content_type: str) -> str:
    """The page as text: UTF-8 if it is that, else the declared charset, else a guess from the bytes.

    UTF-8 comes first because text in another charset is hardly ever valid UTF-8, while wrong
    declarations are common. Bytes that nothing explains become U+FFFD.
    """
    declared = DECLARED.search(content_type.encode("latin-1", "replace")) or DECLARED.search(
        body[:HEAD_BYTES]
    )
    names = ["utf-8-sig", declared and declared.group(1).decode("ascii")]
    for name in names:
        text = _try(body, name)
        if text is not None:
            return text
    guess = _try(body, cchardet.detect(body)["encoding"])
    return guess if guess is not None else body.decode("utf-8", "replace")


def _try(body: bytes, charset: str | None) -> str | None:
    try:
        return body.decode(charset) if charset else None
    except (UnicodeDecodeError, LookupError):
        return None
