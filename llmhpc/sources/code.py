"""Source files of a tree of repositories, or of a list of files with their contents.

Files without a licence that allows it, that others or programs wrote, or that hold a secret are left out. A
repository, or a file of a list, is one rank's: copies and near-copies of a file in other repositories are
found by the dedup stage behind, which sees all ranks.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar, NamedTuple

from llmhpc.config import at_least
from llmhpc.errors import ConfigError
from llmhpc.sources import Reading, Text, deal, enough
from llmhpc.sources.files import Files, find
from llmhpc.sources.jsonl import read_records
from llmhpc.sources.licenses import UNKNOWN, is_allowed, license_of, tag_of
from llmhpc.sources.programs import VENDORED_FOLDERS, language_of, not_written_here, unfit

LICENSE_NAMES = ("license", "licence", "copying", "unlicense")  # with any ending, in this order
PERMISSIVE = [
    "MIT", "MIT-0", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "ISC", "0BSD", "Unlicense", "CC0-1.0", "Zlib",
    "BSL-1.0", "PSF-2.0",
]  # fmt: skip
LIST_FIELDS = ("repository", "path", "content")


@dataclass(kw_only=True, slots=True)
class Config(Files):
    """Where the files are, and which of them. Either ``folder`` or ``paths``."""

    selective: ClassVar[bool] = True

    kind: str = "code"
    folder: str = ""  # each folder in it is a repository
    # ``paths``: JSON lines with repository, path, content, and license (an SPDX expression) if known
    licenses: list[str] = field(default_factory=lambda: list(PERMISSIVE))  # SPDX names
    languages: list[str] = field(default_factory=list)  # as github-linguist calls them; empty: all
    max_file_kb: float = 1000.0  # larger: data
    min_characters: int = 20

    def __post_init__(self) -> None:
        Files.__post_init__(self)
        at_least(self, "max_file_kb", 0.001)
        at_least(self, "min_characters", 0)
        if bool(self.folder) == bool(self.paths):
            raise ConfigError(f"folder={self.folder}, paths={self.paths}: one of the two")

    def has_text(self) -> bool:
        """Always."""
        return True

    def before_launch(self, ranks: int) -> None:
        """Raise ConfigError if the folder or the lists are not there, or too few."""
        if self.paths:
            Files.before_launch(self, ranks)
        else:
            enough(len(_repositories(self)), ranks, f"repositories in source.folder={self.folder}")

    def expected_bytes(self) -> int:
        """The size of the lists; of a tree nobody knows before it is walked."""
        return Files.expected_bytes(self)


class File(NamedTuple):
    """A file and what is known of it without looking inside."""

    repository: str
    path: str  # in the repository, with /
    body: bytes
    license: str
    source: str
    offset: int


def texts(cfg: Config, reading: Reading) -> Iterator[Text]:
    """The files of one rank that pass, in order of repository and path."""
    for file in _listed(cfg, reading) if cfg.paths else _walked(cfg, reading):
        text = _text(file, cfg, reading)
        if text is not None:
            yield text


def _walked(cfg: Config, reading: Reading) -> Iterator[File]:
    mine = deal(_repositories(cfg), reading, "repositories")
    for number, repository in enumerate(mine):
        reading.progress(number, len(mine), "repositories")
        licenses: dict[Path, str] = {}
        for folder, folders, names in os.walk(repository):  # follows no links
            folders[:] = sorted(set(folders) - VENDORED_FOLDERS)
            here = Path(folder)
            above = licenses.get(here.parent, UNKNOWN) if here != repository else UNKNOWN
            licenses[here] = _license_in(here, sorted(names)) or above
            for name in sorted(names):
                path = here / name
                if path.is_symlink() or not path.is_file():
                    reading.skipped["no regular file"] += 1
                    continue
                if path.stat().st_size > 1000 * cfg.max_file_kb:
                    reading.skipped["larger than max_file_kb"] += 1
                    continue
                inside, source = (
                    path.relative_to(p).as_posix() for p in (repository, repository.parent)
                )
                yield File(repository.name, inside, path.read_bytes(), licenses[here], source, 0)


def _license_in(folder: Path, names: list[str]) -> str:
    """The licence of the file in a folder that holds one; empty without such a file."""
    for start in LICENSE_NAMES:
        for name in names:
            path = folder / name
            if name.lower().partition(".")[0].startswith(start) and path.is_file():
                return license_of(path.read_bytes()[:100_000].decode("utf-8", "replace"))
    return ""


def _listed(cfg: Config, reading: Reading) -> Iterator[File]:
    files = deal(find(cfg.paths), reading, "lists")
    for source, offset, row in read_records(files, cfg.max_bytes(), reading):
        known = row if isinstance(row, dict) else {}
        repository, path, content = (known.get(name) for name in LIST_FIELDS)
        if not (isinstance(repository, str) and isinstance(path, str) and isinstance(content, str)):
            reading.skip(f"no {', '.join(LIST_FIELDS)}", source, offset)
            continue
        body = content.encode("utf-8", "replace")
        if len(body) > 1000 * cfg.max_file_kb:
            reading.skipped["larger than max_file_kb"] += 1
            continue
        yield File(repository, path, body, str(known.get("license") or UNKNOWN), source, offset)


def _text(file: File, cfg: Config, reading: Reading) -> Text | None:
    """The document of a file; None, and counted by reason, if it is not wanted."""
    reason, text, language, license = not_written_here(file.path), "", "", ""
    if not reason:
        reason, text = _decoded(file.body)
    if not reason:
        language, license = language_of(file.path, text), tag_of(text) or file.license
        reason = _unwanted(language, license, cfg) or unfit(text)
    if not reason and len(text.strip()) < cfg.min_characters:
        reason = "shorter than min_characters"
    if reason.startswith("secret"):
        reading.skip(reason, file.source, file.offset)
        return None
    if reason:
        reading.skipped[reason] += 1
        return None
    return Text(
        id=f"{file.repository}/{file.path}",
        text=text,
        file=file.source,
        offset=file.offset,
        metadata={
            "repository": file.repository,
            "path": file.path,
            "programming_language": language,
            "license": license,
        },
    )


def _decoded(body: bytes) -> tuple[str, str]:
    """(why it is no text, the text)"""
    if b"\0" in body:
        return "binary", ""
    try:
        return "", body.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return "not UTF-8", ""


def _unwanted(language: str, license: str, cfg: Config) -> str:
    if not language:
        return "language unknown"
    if cfg.languages and language not in cfg.languages:
        return "other language"
    return "" if is_allowed(license, cfg.licenses) else f"license {license}"


def _repositories(cfg: Config) -> list[Path]:
    root = Path(cfg.folder).absolute()
    if not root.is_dir():
        raise ConfigError(f"source.folder={cfg.folder}: no such folder; a folder of repositories")
    return sorted(path for path in root.iterdir() if path.is_dir() and not path.is_symlink())
