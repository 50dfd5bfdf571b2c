"""A folder of HTML files."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from omegaconf import MISSING

from llmhpc.errors import ConfigError
from llmhpc.sources import Page, Reading, Source, deal, enough

SUFFIXES = {".html", ".htm", ".xhtml"}


@dataclass(kw_only=True, slots=True)
class Config(Source):
    """The folder, and the address that its pages had."""

    kind: str = "html"
    folder: str = MISSING
    base_url: str = "http://localhost"  # http(s): of other addresses WARC readers parse no response

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise ConfigError(
                f"base_url={self.base_url}: an address that begins with http:// or https://"
            )

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the folder is not there or has too few pages."""
        enough(len(_files(self)), ranks, f"HTML files in source.folder={self.folder}")

    def expected_bytes(self) -> int:
        """The size of the files, which a WARC file holds compressed: at most."""
        return sum(path.stat().st_size for path in _files(self))


def pages(cfg: Config, reading: Reading) -> Iterator[Page]:
    """The files of one rank, by name."""
    root = Path(cfg.folder).absolute()
    mine = deal(_files(cfg), reading, "HTML files")
    base = cfg.base_url.rstrip("/")
    for number, path in enumerate(mine):
        reading.progress(number, len(mine), "pages")
        name = path.relative_to(root).as_posix()
        body = path.read_bytes()
        if not body.strip():
            reading.skipped["empty file"] += 1
            continue
        # the page itself or its bytes must tell the charset: nothing else knows it
        yield Page(url=f"{base}/{name}", body=body, file=name, content_type="text/html")


def _files(cfg: Config) -> list[Path]:
    root = Path(cfg.folder).absolute()
    if not root.is_dir():
        raise ConfigError(f"source.folder={cfg.folder}: no such folder; a folder of HTML files")
    return sorted(p for p in root.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
