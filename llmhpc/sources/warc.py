"""WARC files: paths, globs, any address that fsspec opens. HTML responses are taken, the rest is counted."""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import NO_DATE, Page, Reading, Source, deal, enough

if TYPE_CHECKING:
    from llmhpc.sources.records import Record

HTML_TYPES = {"text/html", "application/xhtml+xml"}
WILDCARDS = set("*?[")


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """Where the files are."""

    kind: str = "warc"
    paths: list[str] = field(default_factory=list)  # files or globs, local or scheme://
    max_record_mb: float = 50.0  # a larger record is passed over

    def __post_init__(self) -> None:
        at_least(self, "max_record_mb", 0.001)

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if a local path is not there, or there are fewer files than ranks."""
        if not self.paths:
            raise ConfigError("source.paths=[]: one path, glob or address or more")
        local = [path for path in self.paths if "://" not in path]
        found = [file for path in local for file in _local_files(path)]
        if len(local) == len(self.paths):
            enough(len(found), ranks, "files in source.paths")

    def expected_bytes(self) -> int:
        """The size of the local files."""
        local = [path for path in self.paths if "://" not in path]
        return sum(Path(f).stat().st_size for path in local for f in _local_files(path))


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The HTML responses of one rank's files. Raises StageError if an address has no file."""
    files = sorted({file for path in cfg.paths for file in _files(path)})
    yield from read_files(deal(files, reading, "WARC files"), cfg.max_record_mb, reading)


def read_files(files: list[str], max_record_mb: float, reading: Reading) -> Iterator[Page]:
    """The HTML responses of ``files``, any address that fsspec opens, in order."""
    import fsspec

    for number, address in enumerate(files):
        fs, path = fsspec.core.url_to_fs(address)
        total = fs.size(path) or 1
        with fs.open(path, "rb") as file:
            for offset, record in _records(file, int(max_record_mb * 1e6), reading):
                reading.progress(number + min(1.0, offset / total), len(files), "files")
                page = _page(record, address, offset, reading)
                if page is not None:
                    yield page


def _records(
    file: io.BufferedIOBase, max_bytes: int, reading: Reading
) -> Iterator[tuple[int, "Record"]]:
    """(offset, record); one gzip member is one record, and a bad one costs itself."""
    from llmhpc.sources.members import members
    from llmhpc.sources.records import BadRecord, records

    for offset, raw in members(file, reading.skipped, max_bytes):  # type: ignore[arg-type]
        try:
            for record in records(raw):
                yield offset, record
        except BadRecord:
            reading.skipped["bad WARC header"] += 1


def _page(record: "Record", address: str, offset: int, reading: Reading) -> Page | None:
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
    url = record.headers.get("warc-target-uri")
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


def _local_files(path: str) -> list[str]:
    """Absolute paths of a local path or glob. Raises ConfigError if there is none."""
    if WILDCARDS & set(path):
        import glob

        found = sorted(glob.glob(path, recursive=True))  # noqa: PTH207 - ** as users write it
    else:
        found = [path] if Path(path).is_file() else []
    if not found:
        raise ConfigError(f"source.paths={path}: no such file; a WARC file, a glob or an address")
    return [str(Path(file).absolute()) for file in found]


def _files(path: str) -> list[str]:
    if "://" not in path:
        return _local_files(path)
    import fsspec

    fs, inside = fsspec.core.url_to_fs(path)
    if not WILDCARDS & set(path):
        return [path]
    found = [fs.unstrip_protocol(file) for file in sorted(fs.glob(inside))]
    if not found:
        raise StageError(f"source.paths={path}: no file there")
    return found
