"""Common Crawl: a dump's name gives its list of WARC files, which are dealt to the ranks."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Page, Reading, Source, deal
from llmhpc.sources.warc import read_files

FILE_BYTES = 1_000_000_000  # of one of its WARC files, about


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """Which dump, how much of it, from where."""

    kind: str = "commoncrawl"
    dump: str = MISSING  # as in CC-MAIN-2024-10
    files: int = 0  # the first so many of the dump's WARC files; 0: all of them
    base: str = (
        "https://data.commoncrawl.org"  # or s3://commoncrawl, or a folder with the same layout
    )
    max_record_mb: float = 50.0  # a larger record is passed over

    def __post_init__(self) -> None:
        at_least(self, "files", 0)
        at_least(self, "max_record_mb", 0.001)

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the list is in a local folder and not there, or a rank would get no file."""
        if 0 < self.files < ranks:
            raise ConfigError(f"source.files={self.files}: {ranks} or more, one for each rank")
        if "://" not in self.base and not Path(_list_address(self)).is_file():
            raise ConfigError(f"source.dump={self.dump}: {_list_address(self)} is not there")

    def expected_bytes(self) -> int:
        """Of the files that are asked for; a whole dump's number is known from its list alone."""
        return self.files * FILE_BYTES


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The HTML responses of one rank's files. Raises StageError if the dump has no list."""
    names = warc_names(cfg)
    addresses = [f"{cfg.base.rstrip('/')}/{name}" for name in names]
    yield from read_files(deal(addresses, reading, "WARC files"), cfg.max_record_mb, reading)


def warc_names(cfg: Config) -> list[str]:
    """The dump's WARC files below ``base``, in the order of its list."""
    import fsspec

    address = _list_address(cfg)
    try:
        with fsspec.open(address, "rb") as file:
            names = gzip.decompress(file.read()).decode().split()
    except (FileNotFoundError, gzip.BadGzipFile) as error:
        raise StageError(f"source.dump={cfg.dump}: no list of WARC files at {address}") from error
    return names[: cfg.files or None]


def _list_address(cfg: Config) -> str:
    return f"{cfg.base.rstrip('/')}/crawl-data/{cfg.dump}/warc.paths.gz"
