"""Common Crawl: a dump's name gives its list of WARC or WET files, which are dealt to the ranks."""

import gzip
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from llmhpc.config import at_least
from llmhpc.errors import ConfigError, StageError
from llmhpc.sources import Page, Reading, Source, Text, deal
from llmhpc.sources.files import MB
from llmhpc.sources.warc import Format, read_pages, read_texts

FILE_BYTES = {Format.warc: 1_000_000_000, Format.wet: 100_000_000}  # of one of its files, about


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """Which dump, how much of it, from where."""

    kind: str = "commoncrawl"
    dump: str = MISSING  # as in CC-MAIN-2024-10
    format: Format = Format.warc  # wet: the text that Common Crawl took out of the pages
    files: int = 0  # the first so many of the dump's files; 0: all of them
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
        return self.files * FILE_BYTES[self.format]

    def has_text(self) -> bool:
        """True for WET files."""
        return self.format is Format.wet


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The HTML responses of one rank's files. Raises StageError if the dump has no list."""
    yield from read_pages(_mine(cfg, reading), int(cfg.max_record_mb * MB), reading)


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The texts of one rank's files. Raises StageError if the dump has no list."""
    yield from read_texts(_mine(cfg, reading), int(cfg.max_record_mb * MB), reading)


def _mine(cfg: Config, reading: Reading) -> list[str]:
    addresses = [f"{cfg.base.rstrip('/')}/{name}" for name in listed(cfg)]
    return deal(addresses, reading, f"{cfg.format.name.upper()} files")


def listed(cfg: Config) -> list[str]:
    """The dump's files below ``base``, in the order of its list."""
    import fsspec

    address = _list_address(cfg)
    try:
        with fsspec.open(address, "rb") as file:
            names = gzip.decompress(file.read()).decode().split()
    except (FileNotFoundError, gzip.BadGzipFile) as error:
        raise StageError(
            f"source.dump={cfg.dump}: no list of {cfg.format.name.upper()} files at {address}"
        ) from error
    return names[: cfg.files or None]


def _list_address(cfg: Config) -> str:
    return f"{cfg.base.rstrip('/')}/crawl-data/{cfg.dump}/{cfg.format.name}.paths.gz"
