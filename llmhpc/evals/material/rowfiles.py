"""Rows of a data set in a folder: .jsonl, .jsonl.zst and .parquet files, in the layouts that the hub has."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from llmhpc.errors import ConfigError

SUFFIXES = (".jsonl", ".jsonl.zst", ".parquet")
SHARD = re.compile(
    r"[-_.]\d+(?:-of-(\d+)(?:-[0-9a-f]+)?)?$"
)  # as the hub ends the names of several files


class Place(NamedTuple):
    """Where a row stands."""

    file: Path
    line: int  # from 1; of a Parquet file the number of the row
    number: int  # from 1, counted on over all files of the split

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


def find(folder: Path, subset: str, split: str, setting: str = "split") -> list[Path]:
    """The files of one split, in sorted order.

    They lie in <subset>/, data/ or the folder itself, the first that has any, and are called <split>.jsonl,
    <split>-00000-of-00002.parquet or <name>_<split>.jsonl, or whatever they like in a folder <split>/.

    Args:
        folder: of a data set.
        subset: its configuration; empty where it has one only.
        split: as in test.
        setting: what errors call it.

    Raises:
        ConfigError: no such folder, no such split, one name for the splits of two data sets, the same split in
            two formats, or a file of several that is missing.
    """
    if not folder.is_dir():
        raise ConfigError(f"data_dir={folder}: no such folder")
    places = [folder / (subset or "default"), folder / "data", folder]
    for place in places:
        if found := _of_split(place, split, setting):
            return found
    there = sorted({name for place in places for name in _splits(place)})
    within = f" of subset={subset}" if subset else ""
    listed = f"there: {', '.join(there)}" if there else f"{', '.join(SUFFIXES)} are read"
    raise ConfigError(f"{setting}={split}: no file{within} in {folder}; {listed}")


def _of_split(folder: Path, split: str, setting: str) -> list[Path]:
    if found := _files(folder / split):
        return found
    named: dict[str, list[Path]] = {}
    for path in _files(folder):
        name = _split_name(path)
        if name == split or name.endswith(f"_{split}"):
            named.setdefault(name, []).append(path)
    names = [split] if split in named else list(named)
    if len(names) > 1:
        raise ConfigError(f"{setting}={split}: {folder} has {' and '.join(names)}; name the one")
    found = [path for name in names for path in named[name]]
    for path in found:
        if path.suffixes[-1] != found[0].suffixes[-1]:
            raise ConfigError(
                f"{setting}={split}: {found[0]} or {path.name}; leave one of them there"
            )
        if (shard := SHARD.search(_stem(path))) and shard[1] and int(shard[1]) != len(found):
            raise ConfigError(
                f"{setting}={split}: {len(found)} of {int(shard[1])} files like {path}"
            )
    return found


def _files(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("*") if p.name.endswith(SUFFIXES) and p.is_file())


def _splits(folder: Path) -> Iterator[str]:
    yield from map(_split_name, _files(folder))
    yield from (path.name for path in folder.glob("*/") if _files(path))


def _split_name(path: Path) -> str:
    return SHARD.sub("", _stem(path))


def _stem(path: Path) -> str:
    return next(path.name.removesuffix(s) for s in SUFFIXES if path.name.endswith(s))


def read(files: list[Path]) -> Iterator[tuple[Place, dict[str, Any]]]:
    """Every row with its place. Raises ConfigError for a damaged file, and for a line that is no JSON object."""
    before = 0
    for file in files:
        line = 0
        for line, row in _parquet(file) if file.suffix == ".parquet" else _jsonl(file):
            yield Place(file, line, before + line), row
        before += line


def _parquet(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import pyarrow
    import pyarrow.parquet

    try:
        batches = pyarrow.parquet.ParquetFile(file).iter_batches()
        yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except (pyarrow.ArrowException, OSError) as error:
        raise ConfigError(f"split: {file}: {str(error).splitlines()[0]}") from None


def _jsonl(file: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    import orjson

    for number, line in enumerate(_lines(file), 1):
        if not line.strip():
            continue
        try:
            row = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            raise ConfigError(f"split: {file}:{number}: not JSON ({error})") from None
        if not isinstance(row, dict):
            raise ConfigError(
                f"split: {file}:{number}: {line[:40].decode().strip()} is no table of fields"
            )
        yield number, row


def _lines(file: Path) -> Iterator[bytes]:
    if file.suffix != ".zst":
        with file.open("rb") as plain:
            yield from plain
        return
    import io

    import zstandard

    try:
        with file.open("rb") as packed:
            stream = zstandard.ZstdDecompressor().stream_reader(packed, read_across_frames=True)
            yield from io.BufferedReader(stream)  # type: ignore[type-var]
    except zstandard.ZstdError as error:
        raise ConfigError(f"split: {file}: {error}") from None
